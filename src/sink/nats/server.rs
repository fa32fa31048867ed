//! A NATS server: its settings looked up, and a connection that is given up when it is lost.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use secrecy::{ExposeSecret as _, SecretString};

use super::Connection;
use super::subject::Held;
use crate::errors::Result;
use crate::manifest::NatsSink;
use crate::pg::Environment;
use crate::sink::settings::{References, Secrets};
use crate::sink::{Fault, Opener, Sink, trust};

/// Long enough never to end: a lost connection is given up, not taken up again.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What to look at when the other side speaks no TLS.
const NO_TLS: &str = "does the server speak TLS? Without it, `url` begins with `nats://`, and there is no `ca_file`";

/// How to reach a server.
pub(super) struct Settings {
    address: ServerAddr,
    tls: bool,
    login: Login,
    ca_file: Option<PathBuf>,
    pub(super) stream: Option<String>,
    pub(super) timeout: Duration,
    pub(super) secrets: Secrets,
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
pub(in crate::sink) fn opener(sink: &NatsSink, environment: &Environment) -> Result<Box<dyn Opener>> {
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
            lease: Arc::default(),
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
pub(super) struct Lost {
    pub(super) is_open: AtomicBool,
    pub(super) is_lost: AtomicBool,
    pub(super) happened: tokio::sync::Notify,
    /// What the server said outside of an acknowledgement: a right that is missing, say.
    pub(super) said: Mutex<Option<String>>,
}

impl Lost {
    /// Waits for the connection to be lost.
    pub(super) async fn wait(&self) {
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
                    return Fault::refused_login("no connection to the NATS server: it refuses the login");
                }
                ConnectErrorKind::Dns => "the host's name is not known".to_owned(),
                ConnectErrorKind::TimedOut => format!("no answer within {} s", self.timeout.as_secs()),
                other if source.is_empty() => self.secrets.hide(&other.to_string()),
                _ => trust::explained(&self.secrets.hide(&source), self.ca_file.as_ref(), NO_TLS),
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
