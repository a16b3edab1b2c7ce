// go-smtp's server: the program takes the port as its argument.
package main

import (
	"io"
	"log"
	"os"

	"github.com/emersion/go-smtp"
)

type backend struct{}

func (backend) Login(_ *smtp.ConnectionState, _, _ string) (smtp.Session, error) {
	return nil, smtp.ErrAuthUnsupported
}

func (backend) AnonymousLogin(_ *smtp.ConnectionState) (smtp.Session, error) {
	return session{}, nil
}

type session struct{}

func (session) Reset()                                  {}
func (session) Logout() error                           { return nil }
func (session) Mail(_ string, _ smtp.MailOptions) error { return nil }
func (session) Rcpt(_ string) error                     { return nil }

func (session) Data(body io.Reader) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

func main() {
	server := smtp.NewServer(backend{})
	server.Addr = "127.0.0.1:" + os.Args[1]
	server.Domain = "mx.example.org"
	server.MaxMessageBytes = 1000000000
	server.AuthDisabled = true
	server.ErrorLog = log.New(io.Discard, "", 0)
	log.Fatal(server.ListenAndServe())
}
