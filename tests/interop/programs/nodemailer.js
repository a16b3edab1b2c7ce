// Send a message with nodemailer. The environment has the job, see ../clients.py.
const fs = require("fs");
const job = process.env;
const oauth2 = { type: "OAuth2", user: job.MAIL_USER, accessToken: job.MAIL_PASSWORD };
const password = { user: job.MAIL_USER, pass: job.MAIL_PASSWORD };
const login = job.MAIL_MECHANISM && {
  auth: job.MAIL_MECHANISM === "XOAUTH2" ? oauth2 : password,
  authMethod: job.MAIL_MECHANISM,
};
const transport = require("nodemailer").createTransport({
  host: job.MAIL_HOST,
  port: Number(job.MAIL_PORT),
  name: job.MAIL_HELO,
  logger: job.MAIL_DEBUG !== "",
  debug: job.MAIL_DEBUG !== "",
  lmtp: job.MAIL_LMTP === "1",
  secure: job.MAIL_TLS === "implicit",
  requireTLS: job.MAIL_TLS === "starttls",
  ignoreTLS: job.MAIL_TLS === "none",
  tls: { ca: job.MAIL_CA ? fs.readFileSync(job.MAIL_CA) : undefined },
  ...login,
});
const envelope = { from: job.MAIL_FROM, to: job.MAIL_TO.split(" "), use8BitMime: true };
transport
  .sendMail({ envelope, raw: fs.createReadStream(job.MAIL_FILE) })
  .then((info) => info.rejectedErrors?.forEach((error) => console.log(error.response)))
  .catch((error) => {
    console.log(error.response || error.message);
    process.exitCode = 1;
  });
