import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Map;
import java.util.Properties;
import javax.mail.MessagingException;
import javax.mail.Session;
import javax.mail.Transport;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeMessage;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;

/** Send a message with the mail API of Java. The environment has the job, see ../clients.py. */
class JavaMail {
    public static void main(String[] arguments) throws Exception {
        Map<String, String> job = System.getenv();
        String protocol = job.get("MAIL_TLS").equals("implicit") ? "smtps" : "smtp";
        String prefix = "mail." + protocol + ".";
        Properties properties = new Properties();
        properties.put("mail.mime.allowutf8", "true");
        properties.put(prefix + "localhost", job.get("MAIL_HELO"));
        properties.put(prefix + "from", job.get("MAIL_FROM"));
        properties.put(prefix + "allow8bitmime", "true");
        properties.put(prefix + "starttls.enable", String.valueOf(job.get("MAIL_TLS").equals("starttls")));
        properties.put(prefix + "starttls.required", String.valueOf(job.get("MAIL_TLS").equals("starttls")));
        properties.put(prefix + "auth.mechanisms", job.get("MAIL_MECHANISM"));
        properties.put(prefix + "chunksize", job.get("MAIL_BDAT").isEmpty() ? "-1" : job.get("MAIL_BDAT"));
        properties.put(prefix + "ssl.checkserveridentity", "true");
        if (!job.get("MAIL_CA").isEmpty()) {
            properties.put(prefix + "ssl.socketFactory", trusting(job.get("MAIL_CA")));
        }
        Session session = Session.getInstance(properties);
        session.setDebug(!job.get("MAIL_DEBUG").isEmpty());
        MimeMessage message = new MimeMessage(session, new FileInputStream(job.get("MAIL_FILE")));
        String[] names = job.get("MAIL_TO").split(" ");
        InternetAddress[] recipients = new InternetAddress[names.length];
        for (int number = 0; number < names.length; number++) {
            recipients[number] = new InternetAddress(names[number]);
        }
        boolean hasLogin = !job.get("MAIL_MECHANISM").isEmpty();
        String user = hasLogin ? job.get("MAIL_USER") : null;
        String password = hasLogin ? job.get("MAIL_PASSWORD") : null;
        Transport transport = session.getTransport(protocol);
        try {
            transport.connect(job.get("MAIL_HOST"), Integer.parseInt(job.get("MAIL_PORT")), user, password);
            transport.sendMessage(message, recipients);
        } catch (MessagingException error) {
            for (Exception cause = error; cause != null; ) {
                System.out.println("error: " + cause.getMessage());
                cause = cause instanceof MessagingException ? ((MessagingException) cause).getNextException() : null;
            }
            System.exit(1);
        } finally {
            transport.close();
        }
    }

    private static SSLSocketFactory trusting(String path) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream file = new FileInputStream(path)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context.getSocketFactory();
    }
}
