//! Opens a connection to a directory: socket, TLS, login.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use secrecy::ExposeSecret as _;
use tokio::net::{TcpStream, UnixStream};

use super::super::fault::Fault;
use super::super::trust;
use super::directory::{Trouble, refused};
use super::settings::{Login, Settings};

/// Answers to a login that are not about who logs in: `operationsError`, `busy`, `unavailable`, `other`.
const PASSES: [u32; 4] = [1, 51, 52, 80];

/// Opens a connection and logs in; the whole of it within the time-out.
///
/// # Errors
/// Always [`crate::sink::Verdict::Down`]: nothing can be delivered, whatever it is.
pub(super) async fn open(settings: &Settings) -> Result<Ldap, Fault> {
    let is_connected = AtomicBool::new(false);
    let late = || {
        let seconds = settings.timeout.as_secs();
        let what = match (is_connected.load(Ordering::Relaxed), &settings.tls) {
            (false, _) => format!("no connection within {seconds} s"),
            (true, None) => format!("no answer within {seconds} s"),
            (true, Some(_)) => format!("no answer within {seconds} s{}", of_port(settings)),
        };
        Fault::down(format!("{}: {what}", settings.describe()))
    };
    tokio::time::timeout(settings.timeout, try_open(settings, &is_connected))
        .await
        .map_err(|_| late())?
        .map_err(|fault| Fault {
            reason: format!("{}: {}", settings.describe(), fault.reason),
            ..fault
        })
}

async fn try_open(settings: &Settings, is_connected: &AtomicBool) -> Result<Ldap, Fault> {
    let stream = stream(settings).await.map_err(Fault::down)?;
    is_connected.store(true, Ordering::Relaxed);
    let mut connection = LdapConnSettings::new().set_starttls(settings.starttls);
    connection = match stream {
        Stream::Tcp(stream) => connection.set_std_stream(StdStream::Tcp(stream)),
        Stream::Unix(stream) => connection.set_std_stream(StdStream::Unix(stream)),
    };
    if let Some(tls) = &settings.tls {
        connection = connection.set_config(tls.clone());
    }
    let (driver, mut ldap) = LdapConnAsync::from_url_with_settings(connection, &settings.url)
        .await
        .map_err(|error| Fault::down(no_tls(error, settings)))?;
    tokio::spawn(async move {
        // How it ended is seen by whoever waits for an answer.
        _ = driver.drive().await;
    });
    log_in(&mut ldap, settings).await?;
    Ok(ldap)
}

enum Stream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Opens the socket. It is done here because small messages must not wait for each other (`TCP_NODELAY`).
async fn stream(settings: &Settings) -> Result<Stream, String> {
    let refused = |error: std::io::Error| format!("cannot connect: {error}");
    let host = settings.host();
    if settings.url.scheme() == "ldapi" {
        let stream = UnixStream::connect(&*host).await.map_err(refused)?;
        return stream.into_std().map(Stream::Unix).map_err(refused);
    }
    let port = settings
        .url
        .port()
        .unwrap_or(if settings.url.scheme() == "ldaps" { 636 } else { 389 });
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(refused)?.collect();
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    stream.into_std().map(Stream::Tcp).map_err(refused)
}

async fn log_in(ldap: &mut Ldap, settings: &Settings) -> Result<(), Fault> {
    let (who, result) = match &settings.login {
        Login::Anonymous => return Ok(()),
        Login::Simple { dn, password } => (dn.as_str(), ldap.simple_bind(dn, password.expose_secret()).await),
        Login::External => ("SASL EXTERNAL", ldap.sasl_external_bind().await),
    };
    let result = result.map_err(|_| {
        // (With TLS, the other side has spoken it by now.)
        let hint = match settings.tls {
            Some(_) => String::new(),
            None => of_port(settings),
        };
        Fault::down(format!(
            "the directory closed the connection during the login as {who}{hint}"
        ))
    })?;
    match refused(result) {
        Ok(()) => Ok(()),
        Err(trouble @ Trouble::Refused { code, .. }) => {
            let reason = trouble.into_fault(&format!("the login as {who} was refused")).reason;
            let reason = without_password(reason, &settings.login);
            Err(match PASSES.contains(&code) {
                true => Fault::down(reason),
                false => Fault::refused_login(reason),
            })
        }
        Err(Trouble::Fault(fault)) => Err(Fault::down(fault.reason)),
    }
}

/// Takes the password out of what a server said, should it have repeated it.
fn without_password(text: String, login: &Login) -> String {
    match login {
        Login::Simple { password, .. } if password.expose_secret().len() > 3 => {
            text.replace(password.expose_secret(), "***")
        }
        _ => text,
    }
}

fn no_tls(error: LdapError, settings: &Settings) -> String {
    let explained =
        |said: &str| trust::explained(said, settings.ca_file.as_ref(), look_at(settings).unwrap_or_default());
    match error {
        LdapError::LdapResult { result } => match refused(result) {
            Err(trouble) => trouble.into_fault("StartTLS was refused").reason,
            Ok(()) => "StartTLS was refused".to_owned(),
        },
        LdapError::Io { source } => format!("no TLS: {}", explained(&source.to_string())),
        LdapError::Rustls { source } => format!("no TLS: {}", explained(&source.to_string())),
        LdapError::DNSName { .. } => {
            "no TLS: the server's name in `url` is none that a certificate could hold".to_owned()
        }
        _ => format!("the directory closed the connection{}", of_port(settings)),
    }
}

/// Returns what to look at when there is no answer that can be read: one side may speak TLS, and the other one not.
fn look_at(settings: &Settings) -> Option<&'static str> {
    match settings.url.scheme() {
        "ldaps" => Some(
            "does this port speak TLS from the first byte? That is mostly 636; at 389 it is `ldap://` with `starttls: true`",
        ),
        "ldap" if settings.starttls => {
            Some("is this a port for TLS from the first byte? `url` begins with `ldaps://` then, without `starttls`")
        }
        "ldap" => Some("is this a port for TLS? `url` begins with `ldaps://` then"),
        _ => None,
    }
}

fn of_port(settings: &Settings) -> String {
    look_at(settings).map_or_else(String::new, |hint| format!(" (hint: {hint})"))
}
