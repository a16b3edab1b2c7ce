# Send a message with Net::SMTP. The environment has the job, see ../clients.py.
use strict;
use warnings;
use Authen::SASL;
use Net::SMTP;

my %job = %ENV;
my @tls = (SSL_ca_file => $job{MAIL_CA}, SSL_verifycn_name => "localhost", SSL_hostname => "localhost");
my @implicit = $job{MAIL_TLS} eq "implicit" ? (SSL => 1, @tls) : ();
my $smtp = Net::SMTP->new($job{MAIL_HOST}, Port => $job{MAIL_PORT}, Hello => $job{MAIL_HELO}, Timeout => 30, @implicit)
    or die "cannot connect: $@\n";

$SIG{__WARN__} = sub { die @_ };  # Net::SMTP only warns if the server does not offer what an option needs

sub must { $_[0] or die $smtp->code . " " . $smtp->message . "\n" }

must($smtp->starttls(@tls)) if $job{MAIL_TLS} eq "starttls";
if ($job{MAIL_MECHANISM}) {
    my %answers = (user => $job{MAIL_USER}, authname => $job{MAIL_USER}, pass => $job{MAIL_PASSWORD});
    must($smtp->auth(Authen::SASL->new(mechanism => $job{MAIL_MECHANISM}, callback => \%answers)));
}
must($smtp->mail($job{MAIL_FROM}, Bits => $job{MAIL_BDAT} ? "binary" : "8"));
must($smtp->to(split / /, $job{MAIL_TO}));
open(my $file, "<:raw", $job{MAIL_FILE}) or die "$!\n";
my $message = do { local $/; <$file> };
if ($job{MAIL_BDAT}) {
    my $size = $job{MAIL_BDAT};
    my @chunks = unpack("(a$size)*", $message);
    my $last = pop @chunks;
    must($smtp->bdat($_)) for @chunks;
    must($smtp->bdatlast($last));
} else {
    must($smtp->data($message));
}
$smtp->quit;
