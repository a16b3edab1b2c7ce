// Send a message with net/smtp. The environment has the job, see ../clients.py.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"strings"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	host, address := os.Getenv("MAIL_HOST"), net.JoinHostPort(os.Getenv("MAIL_HOST"), os.Getenv("MAIL_PORT"))
	pem, _ := os.ReadFile(os.Getenv("MAIL_CA"))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{ServerName: host, RootCAs: roots}

	connection, err := net.Dial("tcp", address)
	must(err)
	if os.Getenv("MAIL_TLS") == "implicit" {
		connection = tls.Client(connection, config)
	}
	client, err := smtp.NewClient(connection, host)
	must(err)
	must(client.Hello(os.Getenv("MAIL_HELO")))
	if os.Getenv("MAIL_TLS") == "starttls" {
		must(client.StartTLS(config))
	}
	user, password := os.Getenv("MAIL_USER"), os.Getenv("MAIL_PASSWORD")
	switch os.Getenv("MAIL_MECHANISM") {
	case "PLAIN":
		must(client.Auth(smtp.PlainAuth("", user, password, host)))
	case "CRAM-MD5":
		must(client.Auth(smtp.CRAMMD5Auth(user, password)))
	}
	must(client.Mail(os.Getenv("MAIL_FROM")))
	for _, recipient := range strings.Fields(os.Getenv("MAIL_TO")) {
		must(client.Rcpt(recipient))
	}
	writer, err := client.Data()
	must(err)
	message, err := os.ReadFile(os.Getenv("MAIL_FILE"))
	must(err)
	_, err = writer.Write(message)
	must(err)
	must(writer.Close())
	must(client.Quit())
}
