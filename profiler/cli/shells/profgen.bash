# Completion of profgen for bash 4.4 and later.
# shellcheck shell=bash

_profgen() {
    # bash splits words at the characters of COMP_WORDBREAKS. They are joined again where no space is between them.
    local -a words=() starts=()
    local line=$COMP_LINE index word before
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        before=${line%%"$word"*}
        line=${line#"$before$word"}
        if ((index == 0)) || [[ $before || -z $word ]]; then
            words+=("$word")
            starts+=("$index")
        else
            words[${#words[@]} - 1]+=$word
        fi
    done
    local current=${words[${#words[@]} - 1]} kept=
    # Of the last word, readline replaces only what is behind the last such character.
    if [[ $current =~ ^(.*[=:]) && ${current:0:1} != [\"\'] ]]; then
        for ((index = ${#BASH_REMATCH[1]}; index > 0; index--)); do
            if [[ $COMP_WORDBREAKS == *"${current:index - 1:1}"* && ${current:index - 1:1} == [=:] ]]; then
                kept=${current:0:index}
                break
            fi
        done
    fi

    local sort value space=' ' files=
    local -a rows=()
    COMPREPLY=()
    mapfile -t rows < <("${words[0]/#\~/$HOME}" completion bash -- "${words[@]:1}" 2>/dev/null)
    for index in "${!rows[@]}"; do
        [[ ${rows[index]} == file* || ${rows[index]} == directory* ]] && files=yes
        [[ ${rows[index]} == open* ]] && space=
    done
    for index in "${!rows[@]}"; do
        IFS=$'\t' read -r sort value _ <<<"${rows[index]}"
        case $sort in
        command)
            # A command line of its own begins here.
            if declare -F _command_offset >/dev/null; then
                _command_offset "${starts[value + 1]}"
            elif ((value + 2 == ${#words[@]})); then
                mapfile -t COMPREPLY < <(compgen -c -- "$current")
            else
                compopt -o default
            fi
            return
            ;;
        directory) value=${value%/} ;;
        esac
        [[ $kept && $value == "$kept"* ]] && value=${value#"$kept"}
        COMPREPLY+=("$value")
    done
    if [[ $files ]]; then
        compopt -o filenames
    elif [[ -z $space ]]; then
        compopt -o nospace
        # Whatever is complete gets its space here.
        for index in "${!rows[@]}"; do
            [[ ${rows[index]} == open* ]] || COMPREPLY[index]+=' '
        done
    fi
}

complete -o nosort -F _profgen profgen
