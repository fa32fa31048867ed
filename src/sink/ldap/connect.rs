//! Opens a connection to a directory: socket, TLS, login.

use std::net::SocketAddr;

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use secrecy::ExposeSecret as _;
use tokio::net::{TcpStream, UnixStream};

use super::super::fault::Fault;
use super::directory::{Trouble, refused};
use super::settings::{Login, Settings};

/// Answers to a login that are not about who logs in: `operationsError`, `busy`, `unavailable`, `other`.
const PASSES: [u32; 4] = [1, 51, 52, 80];

/// Opens a connection and logs in; the whole of it within the time-out.
///
/// # Errors
/// Always [`crate::sink::Verdict::Down`]: nothing can be delivered, whatever it is.
pub(super) async fn open(settings: &Settings) -> Result<Ldap, Fault> {
    let late = || {
        let seconds = settings.timeout.as_secs();
        Fault::down(format!("{}: no connection within {seconds} s", settings.describe()))
    };
    tokio::time::timeout(settings.timeout, try_open(settings))
        .await
        .map_err(|_| late())?
        .map_err(|fault| Fault {
            reason: format!("{}: {}", settings.describe(), fault.reason),
            ..fault
        })
}

async fn try_open(settings: &Settings) -> Result<Ldap, Fault> {
    let stream = stream(settings).await.map_err(Fault::down)?;
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
        .map_err(|error| Fault::down(no_tls(error)))?;
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
    let result =
        result.map_err(|_| Fault::down(format!("the directory closed the connection during the login as {who}")))?;
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

fn no_tls(error: LdapError) -> String {
    match error {
        LdapError::LdapResult { result } => match refused(result) {
            Err(trouble) => trouble.into_fault("StartTLS was refused").reason,
            Ok(()) => "StartTLS was refused".to_owned(),
        },
        LdapError::Io { source } => format!("no TLS: {source}"),
        LdapError::Rustls { source } => format!("no TLS: {source}"),
        LdapError::DNSName { .. } => {
            "no TLS: the server's name in `url` is none that a certificate could hold".to_owned()
        }
        _ => "the directory closed the connection".to_owned(),
    }
}
