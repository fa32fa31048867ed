//! Messages to JetStream, the part of NATS that keeps them.
//!
//! A batch is published whole, then its acknowledgements are awaited in order. Each message carries `Nats-Msg-Id`: within the
//! stream's duplicate window a second one is recognised and dropped. One connection publishes in order; it never reconnects by itself,
//! because what was on its way would be missing in the middle. What a refusal causes is in [`super::fault`].

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue, NATS_MESSAGE_ID};
use async_nats::jetstream::context::{Context, ContextBuilder, PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

use super::message::{Round, check_headers, content_type, message, preview};
use super::settings::{References, Secrets};
use super::{Delivery, Fault, Finding, Message, Opener, Outcome, Sink, Verdict, fault, trust};
use crate::errors::Result;
use crate::manifest::NatsSink;
use crate::pg::Environment;

/// Long enough never to end: a lost connection is given up, not taken up again.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// How to reach a server.
struct Settings {
    address: ServerAddr,
    tls: bool,
    login: Login,
    ca_file: Option<PathBuf>,
    stream: Option<String>,
    timeout: Duration,
    secrets: Secrets,
}

enum Login {
    Nobody,
    Password(String, SecretString),
    Token(SecretString),
    Credentials(PathBuf),
}

/// Looks up the settings.
///
/// # Errors
/// References that lead nowhere; a URL that cannot be used.
pub(super) fn opener(sink: &NatsSink, environment: &Environment) -> Result<Box<dyn Opener>> {
    let mut references = References::new(environment);
    let mut secrets = Secrets::default();
    let url = references.text(&sink.url);
    let address = url
        .parse::<ServerAddr>()
        .ok()
        .filter(|address| matches!(address.scheme(), "nats" | "tls"));
    let address = address.unwrap_or_else(|| {
        references.problem(
            sink.url.place(),
            "this is no URL of a NATS server",
            "write `nats://HOST:PORT`",
        );
        "nats://localhost".parse().expect("a URL")
    });
    if address.username().is_some() {
        references.problem(
            sink.url.place(),
            "the URL holds a login",
            "write it as `user` and `password`, or as `token`",
        );
    }
    let mut secret = |references: &mut References<'_>, text| {
        let secret = references.secret(text);
        secrets.add(&secret);
        secret
    };
    let login = match (&sink.user, &sink.password, &sink.token, &sink.credentials_file) {
        (_, _, _, Some(file)) => Login::Credentials(references.file(file)),
        (_, _, Some(token), _) => Login::Token(secret(&mut references, token)),
        (Some(user), Some(password), ..) => Login::Password(references.text(user), secret(&mut references, password)),
        _ => Login::Nobody,
    };
    let ca_file = sink.ca_file.as_ref().map(|file| references.file(file));
    let stream = sink.stream.as_ref().map(|stream| references.text(stream));
    references.finish()?;
    Ok(Box::new(Server(Arc::new(Settings {
        tls: address.scheme() == "tls" || ca_file.is_some(),
        address,
        login,
        ca_file,
        stream,
        timeout: Duration::from_secs(sink.timeout.into()),
        secrets,
    }))))
}

struct Server(Arc<Settings>);

impl Opener for Server {
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        // One worker, so that the server's pings are answered also while nothing is delivered.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("emaj-nats")
            .enable_all()
            .build()
            .map_err(|error| Fault::down(format!("no thread for NATS: {error}")))?;
        let lost = Arc::new(Lost::default());
        let context = runtime.block_on(self.0.connect(&lost))?;
        let mut connection = Connection {
            held: None,
            context: Some(context),
            lost,
            settings: self.0.clone(),
            runtime: Some(runtime),
        };
        connection.held = connection.look()?.map(|info| Held::new(&info.config));
        Ok(Box::new(connection))
    }

    fn batch(&self) -> usize {
        2000
    }

    fn describe(&self) -> String {
        let address = &self.0.address;
        format!("NATS at {}:{}", address.host(), address.port())
    }
}

/// Whether the connection is gone, which is for good.
#[derive(Default)]
struct Lost {
    is_open: AtomicBool,
    is_lost: AtomicBool,
    happened: tokio::sync::Notify,
    /// What the server said outside of an acknowledgement: a right that is missing, say.
    said: Mutex<Option<String>>,
}

impl Lost {
    /// Waits for the connection to be lost.
    async fn wait(&self) {
        let happened = self.happened.notified();
        if !self.is_lost.load(Ordering::Acquire) {
            happened.await;
        }
    }
}

impl Settings {
    async fn connect(&self, lost: &Arc<Lost>) -> Result<Context, Fault> {
        let (seen, delayed) = (lost.clone(), lost.clone());
        let mut options = ConnectOptions::new()
            .name("emaj")
            .connection_timeout(self.timeout)
            .request_timeout(Some(self.timeout))
            .ignore_discovered_servers()
            .client_capacity(4096)
            .reconnect_delay_callback(move |_| {
                if delayed.is_open.load(Ordering::Acquire) {
                    NEVER
                } else {
                    Duration::ZERO
                }
            })
            .event_callback(move |event| {
                let seen = seen.clone();
                async move {
                    match event {
                        Event::Disconnected | Event::Closed => {
                            seen.is_lost.store(true, Ordering::Release);
                            seen.happened.notify_waiters();
                        }
                        Event::ServerError(error) => {
                            *seen.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                        }
                        _ => {}
                    }
                }
            });
        if self.tls {
            options = options
                .require_tls(true)
                .tls_client_config(trust::client(self.ca_file.as_ref())?);
        }
        options = match &self.login {
            Login::Nobody => options,
            Login::Password(user, password) => {
                options.user_and_password(user.clone(), password.expose_secret().to_owned())
            }
            Login::Token(token) => options.token(token.expose_secret().to_owned()),
            Login::Credentials(file) => options.credentials_file(file).await.map_err(|error| {
                // (Not the library's words: they may quote the file.)
                let why = match error.kind() {
                    std::io::ErrorKind::NotFound => "there is no such file",
                    std::io::ErrorKind::PermissionDenied => "it may not be read",
                    _ => "it holds no JWT and seed",
                };
                Fault::down(format!(
                    "`{}` (`credentials_file`) cannot be used: {why}",
                    file.display()
                ))
            })?,
        };
        let client = options.connect(self.address.clone()).await.map_err(|error| {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            let why = match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    "it refuses the login".to_owned()
                }
                ConnectErrorKind::Dns => "the host's name is not known".to_owned(),
                ConnectErrorKind::TimedOut => format!("no answer within {} s", self.timeout.as_secs()),
                other if source.is_empty() => self.secrets.hide(&other.to_string()),
                _ => self.secrets.hide(&source),
            };
            Fault::down(format!("no connection to the NATS server: {why}"))
        })?;
        lost.is_open.store(true, Ordering::Release);
        Ok(ContextBuilder::new()
            .timeout(self.timeout)
            .max_ack_inflight(8192)
            .build(client))
    }
}

/// What the stream of the manifest takes.
struct Held {
    name: String,
    subjects: Vec<String>,
    largest: Option<usize>,
}

impl Held {
    fn new(config: &stream::Config) -> Self {
        Held {
            name: config.name.clone(),
            subjects: config.subjects.clone(),
            largest: usize::try_from(config.max_message_size).ok().filter(|most| *most > 0),
        }
    }
}

struct Connection {
    /// The stream of the manifest.
    held: Option<Held>,
    /// Both are taken out when the connection ends.
    context: Option<Context>,
    runtime: Option<Runtime>,
    lost: Arc<Lost>,
    settings: Arc<Settings>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let (Some(context), Some(runtime)) = (self.context.take(), self.runtime.take()) {
            drop(context);
            runtime.shutdown_background();
        }
    }
}

impl Connection {
    fn context(&self) -> &Context {
        self.context.as_ref().expect("there until the end")
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("there until the end").block_on(work)
    }

    /// Asks for the stream of the manifest.
    fn look(&self) -> Result<Option<stream::Info>, Fault> {
        let Some(name) = &self.settings.stream else {
            return Ok(None);
        };
        match self.run(self.context().get_stream(name)) {
            Ok(found) => Ok(Some(found.cached_info().clone())),
            Err(error) => {
                let said = self.settings.secrets.hide(&error.to_string());
                Err(Fault::down(format!(
                    "the stream `{name}` cannot be used: {said} (hint: make it with `nats stream add`, and let the login ask for \
                     `$JS.API.STREAM.INFO.{name}`)"
                )))
            }
        }
    }

    /// Asks whether JetStream is there. Returns what is wrong, or nothing.
    async fn jetstream(&self) -> Option<String> {
        // (Not `query_account`, which cannot read the answers of older servers.)
        let said = match self.context().client().request("$JS.API.INFO", "".into()).await {
            Ok(answer) => {
                let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
                answer.get("error")?.get("description")?.as_str()?.to_owned()
            }
            Err(error) => error.to_string(),
        };
        let said = self.settings.secrets.hide(&said);
        Some(format!(
            "{said} (hint: `jetstream {{}}` in the server's configuration, and for the account)"
        ))
    }

    /// Says what is wrong with a message before it is on its way: afterwards, others of its key would overtake it.
    fn check(&self, message: &Message) -> Result<(), Fault> {
        check_subject(&message.address)?;
        check_headers(&message.headers, is_ours)?;
        let Some(held) = &self.held else { return Ok(()) };
        if !held.subjects.iter().any(|pattern| covers(pattern, &message.address)) {
            return Err(Fault::never(format!(
                "the stream `{}` does not hold the message's subject; it holds {}",
                held.name,
                held.subjects.join(", ")
            )));
        }
        let headers: usize = message
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        match held.largest {
            Some(most) if headers + message.body.len() > most => Err(Fault::never(format!(
                "it is larger than the {most} bytes that the stream `{}` takes",
                held.name
            ))),
            _ => Ok(()),
        }
    }

    /// Publishes what can be published, then collects the acknowledgements.
    async fn publish<'a>(&self, batch: &'a [Delivery], round: &mut Round<'a>) {
        let mut sent: Vec<(usize, &Message, PublishAckFuture)> = Vec::with_capacity(batch.len());
        for (at, delivery) in batch.iter().enumerate() {
            let message = match message(delivery) {
                Ok(message) => message,
                Err(fault) => {
                    round.note(at, "", Outcome::Failed(fault));
                    continue;
                }
            };
            if round.waits(at, &message.key) {
                continue;
            }
            let tried = match self.check(message).and_then(|()| outgoing(delivery, message)) {
                Ok(outgoing) => {
                    let publish = self.context().send_publish(message.address.clone(), outgoing);
                    publish.await.map_err(|error| self.judge(&error))
                }
                Err(fault) => Err(fault),
            };
            match tried {
                Ok(promised) => sent.push((at, message, promised)),
                Err(fault) => {
                    let is_down = fault.verdict == Verdict::Down;
                    round.note(at, &message.key, Outcome::Failed(fault));
                    if is_down {
                        break;
                    }
                }
            }
        }
        for (at, message, promised) in sent {
            let outcome = match promised.await {
                Ok(ack) if ack.duplicate => Outcome::Unchanged,
                Ok(_) => Outcome::Written,
                Err(error) => Outcome::Failed(self.judge(&error)),
            };
            let is_down = matches!(&outcome, Outcome::Failed(fault) if fault.verdict == Verdict::Down);
            round.note(at, &message.key, outcome);
            if is_down {
                break;
            }
        }
    }

    fn judge(&self, error: &PublishError) -> Fault {
        let source = error.source();
        match error.kind() {
            PublishErrorKind::StreamNotFound => Fault::down(
                "no stream holds the message's subject (hint: add it to a stream, or name the stream as `stream` in the manifest)",
            ),
            PublishErrorKind::TimedOut => {
                let said = self.lost.said.lock().unwrap_or_else(PoisonError::into_inner).take();
                let said = said.map(|said| format!("; the server says: {}", self.settings.secrets.hide(&said)));
                Fault::down(format!(
                    "no acknowledgement within {} s{}",
                    self.settings.timeout.as_secs(),
                    said.unwrap_or_default()
                ))
            }
            PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
                Fault::down("the connection to the NATS server is lost")
            }
            PublishErrorKind::MaxPayloadExceeded => Fault::never("it is larger than the server takes (`max_payload`)"),
            PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => {
                Fault::later("the stream expects another message before this one")
            }
            PublishErrorKind::Other => match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                Some(refused) => {
                    let code = refused.error_code().0;
                    let said = self.settings.secrets.hide(&refused.to_string());
                    Fault {
                        verdict: fault::jetstream(code),
                        reason: format!("JetStream refuses it: {said}"),
                        pause: None,
                    }
                }
                None => Fault::down("the NATS server gave no acknowledgement that can be read"),
            },
        }
    }
}

impl Sink for Connection {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let mut round = Round::new(batch);
        let is_lost = self.run(async {
            tokio::select! {
                biased;
                () = self.publish(batch, &mut round) => false,
                () = self.lost.wait() => true,
            }
        });
        if is_lost {
            round.rest(Fault::down("the connection to the NATS server is lost"));
        }
        round.finish()
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        let good = |what: String| Finding { what, problem: None };
        let mut findings = vec![good("log in".to_owned())];
        findings.push(Finding {
            what: "JetStream".to_owned(),
            problem: self.run(self.jetstream()),
        });
        if let Some(info) = self.look()? {
            let (config, window) = (info.config, |seconds: u64| format!("{seconds} s"));
            let what = format!(
                "stream `{}`: holds {}; duplicates are recognised for {}",
                config.name,
                config.subjects.join(", "),
                window(config.duplicate_window.as_secs())
            );
            findings.push(Finding {
                what,
                problem: (config.sealed || config.no_ack).then(|| {
                    let why = if config.sealed {
                        "is sealed"
                    } else {
                        "acknowledges nothing (`no_ack`)"
                    };
                    format!("it {why}")
                }),
            });
        }
        Ok(findings)
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        let line = |delivery: &Delivery| {
            let message = message(delivery)?;
            self.check(message)?;
            let mut headers = vec![("Nats-Msg-Id".to_owned(), delivery.id.clone())];
            headers.push(("Content-Type".to_owned(), content_type(message).to_owned()));
            headers.extend(message.headers.iter().cloned());
            Ok(preview(&message.address, message, headers))
        };
        batch.iter().map(line).collect()
    }
}

fn outgoing(delivery: &Delivery, message: &Message) -> Result<PublishMessage, Fault> {
    let unfit = || Fault::never("its headers are no headers of NATS");
    let value = |text: &str| text.parse::<HeaderValue>().map_err(|_| unfit());
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, value(&delivery.id)?);
    if !message
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        headers.insert("Content-Type", content_type(message));
    }
    for (name, text) in &message.headers {
        headers.append(name.parse::<HeaderName>().map_err(|_| unfit())?, value(text)?);
    }
    Ok(PublishMessage::build()
        .headers(headers)
        .payload(message.body.clone().into()))
}

/// Tells whether a header means something to JetStream that would break delivery.
fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "nats-msg-id" || name.starts_with("nats-expected-") || name == "nats-rollup"
}

fn check_subject(subject: &str) -> Result<(), Fault> {
    let wrong = |why: &str| Err(Fault::never(format!("its subject cannot be published to: {why}")));
    if subject.split('.').any(str::is_empty) {
        return wrong("a token is empty");
    }
    if subject.split('.').any(|token| token == "*" || token == ">") {
        return wrong("a token is a wildcard");
    }
    if subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("it holds a blank or a control character");
    }
    if subject.starts_with('$') {
        return wrong("what begins with `$` belongs to the server");
    }
    Ok(())
}

/// Tells whether a pattern of a stream (`shop.*.>`) holds a subject.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_checked_before_it_is_published() {
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a.*",
            "a.>",
            ">",
            "a b",
            "a\nb",
            "a\tb",
            "$JS.API.STREAM.DELETE.x",
            "a\0",
        ] {
            let fault = check_subject(bad).unwrap_err();
            assert_eq!(fault.verdict, Verdict::Never, "{bad:?}");
        }
        assert!(
            check_subject("a.b*c.d>").is_ok(),
            "a star inside of a token is no wildcard"
        );
    }

    #[test]
    fn patterns_cover_what_the_server_says_they_cover() {
        for (pattern, subject, covered) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("*.b", "a.c", false),
        ] {
            assert_eq!(covers(pattern, subject), covered, "{pattern} {subject}");
        }
    }
}
