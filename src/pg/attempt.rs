//! One try to reach one server: its addresses, and on each address what `sslmode` allows.
//!
//! Called by `search`, target after target. It follows libpq's state machine: what fails before the server has
//! answered leads to the next address; what the server refuses ends the search.

use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use postgres::config::SslNegotiation;
use postgres::error::DbError;
use postgres::{Client, Config, NoTls};
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::errors::Kind;

use super::error::{self, ServerError};
use super::pooler;
use super::settings::Settings;
use super::target::{Place, Target};
use super::tls::BadTls;
use super::values::SslMode;
use super::verifier;

pub(super) type NoticeHandler = Arc<dyn Fn(DbError) + Send + Sync>;

/// A connection, and what is needed to open another to the very same server.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) target: Target,
    /// Present when the connection is encrypted.
    pub(super) tls: Option<MakeRustlsConnect>,
}

/// Why one try failed.
#[derive(Debug)]
pub(super) enum Cause {
    Lookup(std::io::Error),
    TimedOut(Duration),
    Tls(BadTls),
    Server(postgres::Error),
    /// The server is not of the kind that `target_session_attrs` asks for.
    WrongKind(&'static str),
}

/// A failed try and where it was made.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) at: String,
    pub(super) cause: Cause,
}

impl Cause {
    /// Returns whether libpq would go on to the next address or host.
    pub(super) fn leads_on(&self) -> bool {
        match self {
            Cause::Lookup(_) | Cause::TimedOut(_) | Cause::WrongKind(_) => true,
            Cause::Tls(_) => false,
            Cause::Server(error) => match error.as_db_error() {
                Some(server) => server.code().code() == "57P03",
                None => error.to_string() == "error connecting to server",
            },
        }
    }

    pub(super) fn lacks_password(&self) -> bool {
        matches!(self, Cause::Server(error) if error::lacks_password(error))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Cause::Lookup(_) | Cause::TimedOut(_) | Cause::WrongKind(_) => Kind::Unreachable,
            Cause::Tls(_) => Kind::Usage,
            Cause::Server(error) => error::kind(error),
        }
    }

    /// Returns whether the other way, with or without TLS, may help: the server refused the login.
    fn is_refusal(&self) -> bool {
        matches!(self, Cause::Server(error) if error.code().is_some_and(|state| state.code().starts_with("28")))
    }

    fn is_refusal_of_options(&self) -> bool {
        matches!(self, Cause::Server(error) if error.code().is_some_and(|state| pooler::NO_OPTIONS.contains(&state.code())))
    }

    fn is_failed_handshake(&self) -> bool {
        match self {
            Cause::Tls(_) => true,
            Cause::Server(error) => error.to_string() == "error performing TLS handshake",
            _ => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Lookup(error) => write!(f, "the host name cannot be looked up: {error}"),
            Cause::TimedOut(limit) => write!(f, "no answer within {} s", limit.as_secs()),
            Cause::Tls(bad) => write!(f, "{bad}"),
            Cause::WrongKind(problem) => f.write_str(problem),
            Cause::Server(error) if error::lacks_password(error) => {
                f.write_str("the server wants a password, and none is given")
            }
            Cause::Server(error) => match (ServerError::of(error), std::error::Error::source(error)) {
                (Some(server), _) => write!(f, "{server}"),
                (None, Some(source)) if handshake_error(source).is_some() => {
                    write!(
                        f,
                        "{}",
                        handshake_error(source).map(verifier::explain).unwrap_or_default()
                    )
                }
                (None, Some(source)) if error.to_string() == "error connecting to server" => write!(f, "{source}"),
                (None, Some(source)) => write!(f, "{error}: {source}"),
                (None, None) => write!(f, "{error}"),
            },
        }
    }
}

/// Returns what rustls said, out of the wrappings that the crates put around it.
fn handshake_error<'a>(source: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    source.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref()
}

/// Tries the addresses of a target in turn. The failures of all tries are handed back, the last one decides.
pub(super) fn open(settings: &Settings, target: &Target, notices: &NoticeHandler) -> Result<Opened, Vec<Failure>> {
    let places = match places(settings, target) {
        Ok(places) => places,
        Err(error) => {
            return Err(vec![Failure {
                at: target.to_string(),
                cause: Cause::Lookup(error),
            }]);
        }
    };
    let mut failures = Vec::new();
    for place in places {
        let at = Target {
            place,
            port: target.port,
        };
        match open_at(settings, &at, notices) {
            Ok(opened) => return Ok(opened),
            Err(causes) => {
                let shown = match (&target.place, at.place.address()) {
                    (Place::Host(name), Some(address)) if *name != address.to_string() => {
                        format!("{target} ({address})")
                    }
                    _ => at.to_string(),
                };
                let leads_on = causes.last().is_none_or(|(_, cause)| cause.leads_on());
                let both_ways = causes.len() > 1;
                failures.extend(causes.into_iter().map(|(way, cause)| {
                    let at = if both_ways {
                        format!("{shown} {way}")
                    } else {
                        shown.clone()
                    };
                    Failure { at, cause }
                }));
                if !leads_on {
                    break;
                }
            }
        }
    }
    Err(failures)
}

/// Returns the target's addresses, each as a place of its own.
fn places(settings: &Settings, target: &Target) -> std::io::Result<Vec<Place>> {
    let Place::Host(name) = &target.place else {
        return Ok(vec![target.place.clone()]);
    };
    let mut addresses: Vec<IpAddr> = (name.as_str(), target.port)
        .to_socket_addrs()?
        .map(|found| found.ip())
        .collect();
    if settings.shuffle {
        super::search::shuffle(&mut addresses);
    }
    Ok(addresses
        .into_iter()
        .map(|address| Place::Address {
            address,
            name: Some(name.clone()),
        })
        .collect())
}

const WITH_TLS: &str = "with TLS";
const WITHOUT_TLS: &str = "without TLS";

/// Tries one address, in the ways and the order that `sslmode` says. Each cause comes with the way.
fn open_at(settings: &Settings, at: &Target, notices: &NoticeHandler) -> Result<Opened, Vec<(&'static str, Cause)>> {
    let plain = || open_once(settings, at, false, notices).map_err(|(cause, _)| cause);
    let encrypted = || open_once(settings, at, true, notices);
    let mode = if matches!(at.place, Place::Socket(_)) {
        SslMode::Disable
    } else {
        settings.tls.mode
    };
    match mode {
        SslMode::Disable => plain().map_err(|cause| vec![(WITHOUT_TLS, cause)]),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            encrypted().map_err(|(cause, _)| vec![(WITH_TLS, cause)])
        }
        SslMode::Allow => plain().or_else(|first| match first.is_refusal() {
            true => encrypted().map_err(|(second, _)| vec![(WITHOUT_TLS, first), (WITH_TLS, second)]),
            false => Err(vec![(WITHOUT_TLS, first)]),
        }),
        SslMode::Prefer => encrypted().or_else(|(first, was_encrypted)| {
            match first.is_failed_handshake() || (was_encrypted && first.is_refusal()) {
                true => plain().map_err(|second| vec![(WITH_TLS, first), (WITHOUT_TLS, second)]),
                false => Err(vec![(WITH_TLS, first)]),
            }
        }),
    }
}

/// Tries once; again without the mark, where a pooler takes no options. The error also says whether TLS was spoken.
fn open_once(
    settings: &Settings,
    at: &Target,
    encrypted: bool,
    notices: &NoticeHandler,
) -> Result<Opened, (Cause, bool)> {
    let marked = format!("{} {}", settings.options, pooler::MARK);
    match open_with(settings, at, encrypted, notices, &marked) {
        Err((cause, _)) if cause.is_refusal_of_options() => {
            open_with(settings, at, encrypted, notices, &settings.options)
        }
        other => other,
    }
}

fn open_with(
    settings: &Settings,
    at: &Target,
    encrypted: bool,
    notices: &NoticeHandler,
    options: &str,
) -> Result<Opened, (Cause, bool)> {
    let mut config = config(settings, at, notices);
    if !options.is_empty() {
        config.options(options);
    }
    let used = Arc::new(AtomicBool::new(false));
    if !encrypted {
        config.ssl_mode(postgres::config::SslMode::Disable);
        let opened = within(settings.connect_timeout, move || config.connect(NoTls));
        return opened
            .map(|client| Opened {
                client,
                target: at.clone(),
                tls: None,
            })
            .map_err(|cause| (cause, false));
    }
    // Only `allow` and `prefer` take a server that has no TLS.
    config.ssl_mode(match settings.tls.mode.is_weak() {
        true => postgres::config::SslMode::Prefer,
        false => postgres::config::SslMode::Require,
    });
    let given_name = at.place.given_name();
    let name = Some(given_name.as_str()).filter(|name| !name.is_empty());
    let tls = settings
        .tls
        .connector(name, used.clone())
        .map_err(|bad| (Cause::Tls(bad), false))?;
    let connector = tls.clone();
    let opened = within(settings.connect_timeout, move || config.connect(connector));
    let was_encrypted = used.load(Ordering::Relaxed);
    opened
        .map(|client| Opened {
            client,
            target: at.clone(),
            tls: was_encrypted.then_some(tls),
        })
        .map_err(|cause| (cause, was_encrypted))
}

fn config(settings: &Settings, at: &Target, notices: &NoticeHandler) -> Config {
    let mut config = Config::new();
    match &at.place {
        Place::Socket(dir) => _ = config.host_path(dir),
        Place::Host(name) => _ = config.host(name),
        Place::Address { address, name } => {
            // The name goes into the TLS hello; one that cannot be there is replaced by the address.
            let name = name.clone().filter(|name| ServerName::try_from(name.as_str()).is_ok());
            config
                .host(&name.unwrap_or_else(|| address.to_string()))
                .hostaddr(*address);
        }
    }
    config
        .port(at.port)
        .user(&settings.user)
        .dbname(&settings.dbname)
        .application_name(&settings.application_name);
    if let (Some(password), _) = settings.password_for(at) {
        config.password(password.expose_secret());
    }
    if settings.tls.direct {
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    config.channel_binding(settings.channel_binding);
    let keepalive = settings.keepalive;
    let seconds = |number: u32| Duration::from_secs(u64::from(number));
    config.keepalives(keepalive.on);
    keepalive.idle.map(|idle| config.keepalives_idle(seconds(idle)));
    keepalive
        .interval
        .map(|interval| config.keepalives_interval(seconds(interval)));
    keepalive.count.map(|count| config.keepalives_retries(count));
    keepalive
        .user_timeout_ms
        .map(|limit| config.tcp_user_timeout(Duration::from_millis(u64::from(limit))));
    let notices = notices.clone();
    config.notice_callback(move |notice| notices(notice));
    config
}

/// Runs a try, for `limit` at most. The crate's own limit ends with the TCP handshake, libpq's with the login; so the try
/// has a thread of its own, which is left behind when the time is up and ends when the server closes or answers.
fn within(
    limit: Option<Duration>,
    connect: impl FnOnce() -> Result<Client, postgres::Error> + Send + 'static,
) -> Result<Client, Cause> {
    let Some(limit) = limit else {
        return connect().map_err(Cause::Server);
    };
    let (sender, receiver) = mpsc::channel();
    let started = thread::Builder::new()
        .name("connect".to_owned())
        .spawn(move || _ = sender.send(connect()));
    started.map_err(Cause::Lookup)?;
    match receiver.recv_timeout(limit) {
        Ok(opened) => opened.map_err(Cause::Server),
        Err(_) => Err(Cause::TimedOut(limit)),
    }
}
