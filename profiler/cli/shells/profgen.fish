# Completion of profgen for fish 3.4 and later.

function __profgen_complete
    set -l words (commandline -opc)
    set -l rows ($words[1] completion fish -- $words[2..-1] (commandline -ct) 2>/dev/null)
    for row in $rows
        set -l fields (string split -m 2 \t -- $row)
        if test $fields[1] = command
            # A command line of its own begins here.
            set -l rest $words[(math $fields[2] + 2)..-1]
            complete -C (string join ' ' -- (string escape -- $rest) (commandline -ct))
        else
            printf '%s\t%s\n' $fields[2] $fields[3]
        end
    end
end

complete -c profgen -e
complete -c profgen -f -k -a '(__profgen_complete)'
