// go-smtp's server: the arguments are the port and, for TLS, the files of the certificate chain and of the key.
package main

import (
	"crypto/tls"
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
	if len(os.Args) > 3 {
		pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
		log.Fatal(server.ListenAndServeTLS())
	}
	log.Fatal(server.ListenAndServe())
}
