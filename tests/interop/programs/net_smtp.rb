# Send a message with net/smtp. The environment has the job, see ../clients.py.
require "net/smtp"

context = OpenSSL::SSL::SSLContext.new
context.set_params(ca_file: ENV["MAIL_CA"]) unless ENV["MAIL_CA"].empty?
smtp = Net::SMTP.new(ENV["MAIL_HOST"], ENV["MAIL_PORT"].to_i)
smtp.disable_starttls
smtp.enable_starttls(context) if ENV["MAIL_TLS"] == "starttls"
smtp.enable_tls(context) if ENV["MAIL_TLS"] == "implicit"
login = ENV["MAIL_MECHANISM"].empty? ? [] : [ENV["MAIL_USER"], ENV["MAIL_PASSWORD"], ENV["MAIL_MECHANISM"].downcase.tr("-", "_")]
begin
  smtp.start(ENV["MAIL_HELO"], *login) do
    smtp.send_message(File.binread(ENV["MAIL_FILE"]), ENV["MAIL_FROM"], ENV["MAIL_TO"].split)
  end
rescue Net::ProtocolError => error
  abort(error.message)
end
