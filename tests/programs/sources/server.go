// Serves HTTP until SIGTERM, with temporary files and child processes: server ADDRESS DIRECTORY.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func work(directory string) (string, error) {
	file, err := os.CreateTemp(directory, "up")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err = file.WriteString("content"); err != nil {
		return "", err
	}
	if _, err = file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return "", err
	}
	id, err := exec.Command("/usr/bin/id", "-u").Output()
	return fmt.Sprintf("%s %s", text, id), err
}

func main() {
	http.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		text, err := work(os.Args[2])
		if err != nil {
			http.Error(writer, err.Error(), 500)
			return
		}
		io.WriteString(writer, text)
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
		os.Exit(1)
	}()
	<-stop
}
