<?php
// Send a text with PHPMailer. The environment has the job, see ../clients.py.
require '/usr/share/php/libphp-phpmailer/autoload.php';

$message = str_replace("\r\n", "\n", file_get_contents(getenv('MAIL_FILE')));
[$header, $text] = explode("\n\n", $message, 2);
preg_match('/^Subject: (.*)$/m', $header, $subject);

$mail = new PHPMailer\PHPMailer\PHPMailer();
$mail->isSMTP();
$mail->Host = getenv('MAIL_HOST');
$mail->Port = (int) getenv('MAIL_PORT');
$mail->Helo = getenv('MAIL_HELO');
$mail->SMTPDebug = (int) getenv('MAIL_DEBUG');
$mail->Debugoutput = 'echo';
$mail->SMTPAutoTLS = false;
$mail->SMTPSecure = ['none' => '', 'starttls' => 'tls', 'implicit' => 'ssl'][getenv('MAIL_TLS')];
$mail->SMTPOptions = ['ssl' => ['cafile' => getenv('MAIL_CA')]];
$mail->SMTPAuth = getenv('MAIL_MECHANISM') !== '';
$mail->AuthType = getenv('MAIL_MECHANISM');
$mail->Username = getenv('MAIL_USER');
$mail->Password = getenv('MAIL_PASSWORD');
$mail->setFrom(getenv('MAIL_FROM'));
foreach (explode(' ', getenv('MAIL_TO')) as $recipient) {
    $mail->addAddress($recipient);
}
$mail->CharSet = 'utf-8';
$mail->Encoding = '8bit';
$mail->Subject = $subject[1];
$mail->AllowEmpty = true;
$mail->Body = $text;
if (!$mail->send()) {
    echo $mail->ErrorInfo, "\n", $mail->getSMTPInstance()->getLastReply(), "\n";
    exit(1);
}
