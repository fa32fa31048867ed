//! Ways in: plain, StartTLS, LDAPS, the socket, certificates; and what keeps one out.

use std::io::Read as _;
use std::net::TcpListener;

use emaj::sink::{Fault, Sink, Verdict};

use super::hand::{connect, entry, insert, letters, opener, person, person_dn, plain, try_opener};
use crate::support::sinks::{certificate, tls_server};
use crate::support::slapd::{ACCOUNT, PASSWORD, slapd};

fn refused(settings: &str) -> Fault {
    match opener(settings).open() {
        Ok(_) => panic!("expected a refusal: {settings}"),
        Err(fault) => fault,
    }
}

fn writes(mut sink: Box<dyn Sink>, uid: &str) {
    assert_eq!(letters(&mut *sink, &[insert(&person(uid, &[]))]), "w");
}

#[test]
fn each_way_to_log_in_leads_to_a_write() {
    let slapd = slapd();
    let login = format!("bind_dn: \"{ACCOUNT}\", password: \"${{env:LDAP_PASSWORD}}\"");
    let ca = format!("ca_file: {}", slapd.file("ca.crt").display());
    let certificate = format!(
        "cert_file: {}, key_file: {}, sasl: external",
        slapd.file("client.crt").display(),
        slapd.file("client.key").display()
    );
    let (url, tls_url, socket_url) = (slapd.url(), slapd.tls_url(), slapd.socket_url());
    for (uid, settings) in [
        ("plain", format!("url: \"{url}\", {login}")),
        ("starttls", format!("url: \"{url}\", starttls: true, {ca}, {login}")),
        ("ldaps", format!("url: \"{tls_url}\", {ca}, {login}")),
        ("certificate", format!("url: \"{tls_url}\", {ca}, {certificate}")),
        (
            "starttls-certificate",
            format!("url: \"{url}\", starttls: true, {ca}, {certificate}"),
        ),
        ("socket", format!("url: \"{socket_url}\", sasl: external")),
    ] {
        let mut sink = opener(&settings)
            .open()
            .unwrap_or_else(|fault| panic!("{uid}: {fault}"));
        let findings = sink.probe().unwrap();
        let found = |part: &str| {
            findings
                .iter()
                .any(|one| one.problem.is_none() && one.what.contains(part))
        };
        let encryption = match uid {
            "plain" | "socket" => "encryption: none",
            "ldaps" | "certificate" => "encryption: TLS",
            _ => "encryption: StartTLS",
        };
        assert!(
            found(encryption) && found(&format!("the directory says dn:{ACCOUNT}")),
            "{uid}: {findings:?}"
        );
        assert!(
            found("read `dc=example,dc=org`") && found("list in pages") && found("write: not tried"),
            "{findings:?}"
        );
        writes(sink, uid);
        assert!(slapd.entry(&person_dn(uid)).is_some());
    }
    assert!(slapd.log().contains("TLS established"), "slapd too says so");
}

#[test]
fn what_keeps_one_out_is_said_and_the_secret_is_not() {
    let slapd = slapd();
    let ca = |name: &str| format!("ca_file: {}", slapd.file(name).display());
    let login = format!("bind_dn: \"{ACCOUNT}\", password: \"${{env:LDAP_PASSWORD}}\"");
    let (url, tls_url) = (slapd.url(), slapd.tls_url());
    for (settings, expected) in [
        (
            format!("url: \"{url}\", bind_dn: \"{ACCOUNT}\", password: canary-wrong"),
            "invalidCredentials (49)",
        ),
        (
            format!("url: \"{url}\", bind_dn: \"cn=nobody,dc=x\", password: canary-wrong"),
            "invalidCredentials (49)",
        ),
        (
            format!("url: \"{tls_url}\", {}, {login}", ca("other.crt")),
            "certificate",
        ),
        (
            format!("url: \"{url}\", starttls: true, {}, {login}", ca("other.crt")),
            "certificate",
        ),
        // An address that is not in the certificate.
        (
            format!(
                "url: \"{}\", {}, {login}",
                tls_url.replace("localhost", "127.0.0.2"),
                ca("ca.crt")
            ),
            "cannot connect",
        ),
        (format!("url: \"ldap://127.0.0.1:9\", {login}"), "cannot connect"),
        (
            format!("url: \"ldap://no-such-host.invalid\", {login}"),
            "cannot connect",
        ),
        (
            "url: \"ldapi://%2Fno%2Fsuch%2Fsocket\", sasl: external".to_owned(),
            "cannot connect",
        ),
        (format!("url: \"{url}\", sasl: external"), "SASL EXTERNAL was refused"),
    ] {
        let fault = refused(&settings);
        assert_eq!(fault.verdict, Verdict::Down, "{settings}: {fault}");
        assert!(fault.reason.contains(expected), "{settings}: {fault}");
        assert!(!format!("{fault:?} {fault}").contains("canary"), "{fault:?}");
    }
    let opener = opener(&plain(&slapd));
    assert_eq!(opener.describe(), slapd.url());
    assert_eq!(opener.lanes(), 4);
}

#[test]
fn settings_that_lead_nowhere_are_errors_of_the_manifest() {
    let said = |settings: &str| match try_opener(settings) {
        Ok(_) => panic!("expected an error: {settings}"),
        Err(error) => {
            assert_eq!(error.exit_code(), 65);
            error.to_string()
        }
    };
    assert!(said("url: \"ldap://x\", bind_dn: a, password: \"${env:NO_SUCH}\"").contains("`NO_SUCH` is not set"));
    assert!(said("url: \"ldapi:///socket\"").contains("names no socket"));
    assert!(said("url: \"ldap://me:canary@host\"").contains("it holds a user or a password"));
    assert!(!said("url: \"ldap://me:canary@host\"").contains("canary"));
    assert!(said("url: \"ldaps://x\", ca_file: /no/such/file").contains("`/no/such/file` (`ca_file`) cannot be read"));
    // What the manifest refers to and cannot be used is said with its place.
    assert!(said("url: \"ldaps://x\", ca_file: /no/such/file").contains("/tmp/manifest.yaml:2:"));
}

/// What a library says of TLS is told with what would help.
#[test]
fn tls_that_fails_is_told_with_what_to_look_at() {
    let slapd = slapd();
    let login = format!("bind_dn: \"{ACCOUNT}\", password: \"${{env:LDAP_PASSWORD}}\"");
    let file = |name: &str| slapd.file(name).display().to_string();
    let ca = |name: &str| format!("ca_file: {}", file(name));
    let (url, tls_url) = (slapd.url(), slapd.tls_url());
    for (settings, hint) in [
        (
            format!("url: \"{tls_url}\", {}, {login}", ca("other.crt")),
            "`other.crt` (`ca_file`) does not hold the authority that signed",
        ),
        (
            format!("url: \"{tls_url}\", {login}"),
            "name the file of the authority that signed the server's certificate as `ca_file`",
        ),
        (
            format!("url: \"{url}\", starttls: true, {login}"),
            "name the file of the authority that signed the server's certificate as `ca_file`",
        ),
        (
            format!("url: \"{}\", {}, {login}", url.replace("ldap:", "ldaps:"), ca("ca.crt")),
            "does this port speak TLS from the first byte?",
        ),
        (
            format!("url: \"{}\", {login}", tls_url.replace("ldaps:", "ldap:")),
            "is this a port for TLS? `url` begins with `ldaps://` then",
        ),
        (
            format!(
                "url: \"{}\", timeout: 2, starttls: true, {}, {login}",
                tls_url.replace("ldaps:", "ldap:"),
                ca("ca.crt")
            ),
            "is this a port for TLS from the first byte?",
        ),
    ] {
        let fault = refused(&settings);
        assert_eq!(fault.verdict, Verdict::Down, "{settings}: {fault}");
        let hint = format!("(hint: {hint}");
        let is_said =
            fault.reason.contains(&hint) || fault.reason.contains(&hint.replace("other.crt", &file("other.crt")));
        assert!(is_said, "{settings}: {fault}");
    }
}

/// Who hangs up at the login over TLS has spoken TLS: the port is not what to look at.
#[test]
fn a_login_that_breaks_off_behind_tls_says_nothing_of_the_port() {
    let certificate = certificate();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &certificate.0).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = tls_server(&certificate);
    std::thread::spawn(move || {
        let session = rustls::ServerConnection::new(config).unwrap();
        let mut stream = rustls::StreamOwned::new(session, listener.accept().unwrap().0);
        let _ = stream.read(&mut [0; 4096]);
    });
    let fault = refused(&format!(
        "url: \"ldaps://localhost:{port}\", ca_file: {}, bind_dn: \"cn=a\", password: \"${{env:LDAP_PASSWORD}}\", timeout: 5",
        file.display()
    ));
    let expected = "the directory closed the connection during the login as cn=a";
    assert!(fault.reason.ends_with(expected), "{fault}");
}

/// A certificate of ours that cannot be used is told with its file, not in a library's words about a peer.
#[test]
fn a_certificate_of_ours_that_cannot_be_used_is_told_with_its_file() {
    let slapd = slapd();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (certificate, key) = (
        slapd.file("client.crt").display().to_string(),
        slapd.file("client.key").display().to_string(),
    );
    let (first, none) = (file("first.crt", VERSION_1), file("none.pem", "none"));
    let other = slapd.file("server.key").display().to_string();
    for (certificate, key, expected) in [
        (
            &certificate,
            &other,
            format!("`{other}` (`key_file`) is not the key of the certificate in `{certificate}` (`cert_file`)"),
        ),
        (
            &first,
            &key,
            format!("the certificate in `{first}` (`cert_file`) is of version 1"),
        ),
        (&none, &key, format!("`{none}` (`cert_file`) holds no certificate")),
        (
            &certificate,
            &none,
            format!("`{none}` (`key_file`) cannot be read as PEM"),
        ),
    ] {
        let settings = format!(
            "url: \"{}\",\n ca_file: {},\n cert_file: {certificate}, key_file: {key}, sasl: external",
            slapd.tls_url(),
            slapd.file("ca.crt").display()
        );
        let Err(error) = try_opener(&settings) else {
            panic!("{settings}")
        };
        assert_eq!(error.exit_code(), 65);
        let said = error.to_string();
        assert!(said.contains(&expected) && !said.contains("peer"), "{said}");
        // (It stands where `cert_file` does.)
        assert!(said.contains("/tmp/manifest.yaml:4:"), "{said}");
    }
}

/// `openssl x509 -req -signkey`, without extensions.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBJzCBzwIUGCJimXx3fhcP/0XfbZz+dlMZRE4wCgYIKoZIzj0EAwIwFjEUMBIG\n\
A1UEAwwLdmVyc2lvbiBvbmUwIBcNMjYxMTI0MTEwNDMwWhgPMjEyNjEwMzExMTA0\n\
MzBaMBYxFDASBgNVBAMMC3ZlcnNpb24gb25lMFkwEwYHKoZIzj0CAQYIKoZIzj0D\n\
AQcDQgAEbKr91IdE+UZJn/It4SvxhUqiIp3IajPLx/dGpqXCuSa0BMiGZuay7e4G\n\
qTnfUlGSEDZ7U9M0oLJ+cWwmoTAVijAKBggqhkjOPQQDAgNHADBEAiAJEJnYDu+r\n\
R9Xl+zwyWIpQNcf3ndfkEMtzts5N/Aoo8gIgbQs51IUdBfGbYpmpHicMHftW9FtT\n\
XH0xNC6QQ8lP8WY=\n\
-----END CERTIFICATE-----\n";

#[test]
fn the_secret_is_nowhere_to_be_seen() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    // A server that repeats what it is told would tell it in a fault.
    let secret = entry(
        "cn=x,ou=groups,dc=example,dc=org",
        &["nothing"],
        &[("userPassword", &[PASSWORD])],
    );
    let outcomes = sink.deliver(&[insert(&secret)]);
    assert!(!format!("{outcomes:?}").contains(PASSWORD), "{outcomes:?}");
    assert!(!format!("{:?}", sink.probe().unwrap()).contains(PASSWORD));
    assert!(!opener(&plain(&slapd)).describe().contains(PASSWORD));
}

#[test]
fn without_a_login_it_is_nobody_and_says_so() {
    let slapd = slapd();
    let mut sink = opener(&format!("url: \"{}\"", slapd.url())).open().unwrap();
    let findings = sink.probe().unwrap();
    assert!(
        findings.iter().any(|one| one.what.contains("nobody (anonymous)")),
        "{findings:?}"
    );
    // The rights may be given while it waits.
    assert_eq!(letters(&mut *sink, &[insert(&person("bob", &[]))]), "d");
}
