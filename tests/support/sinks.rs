//! Sinks as a manifest would open them, and deliveries for them; the servers behind are beside this file.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};

use emaj::errors::Error;
use emaj::sink::{Action, Delivery, Message, Offset, Opener, Outcome, Verdict};

use super::rows::try_opener;

/// Makes what opens a sink without files of its own; `settings`: its YAML, on one line, with references that are looked up in `variables`.
pub fn try_sink(settings: &str, variables: &[(&str, &str)]) -> Result<Box<dyn Opener>, Error> {
    let folder = tempfile::tempdir().unwrap();
    try_opener(folder.path(), "place", settings, variables)
}

pub fn sink(settings: &str, variables: &[(&str, &str)]) -> Box<dyn Opener> {
    try_sink(settings, variables).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns a message with a CloudEvents body that holds its id.
pub fn event(id: &str, address: &str, key: &str) -> Delivery {
    let body =
        serde_json::json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": "t", "data": { "key": key } });
    delivery(id, address, key, &body.to_string(), true)
}

/// Returns a message with a body of the manifest's own.
pub fn plain(id: &str, address: &str, key: &str, body: &str) -> Delivery {
    delivery(id, address, key, body, false)
}

fn delivery(id: &str, address: &str, key: &str, body: &str, is_cloud_event: bool) -> Delivery {
    Delivery {
        id: id.to_owned(),
        binding: "b".into(),
        offset: Offset(id.to_owned()),
        time: "2026-01-01T00:00:00.000000Z".to_owned(),
        replay: None,
        retried: false,
        event: None,
        action: Action::Message(Message {
            address: address.to_owned(),
            key: key.to_owned(),
            event_type: "t".to_owned(),
            body: body.to_owned(),
            is_cloud_event,
            headers: Vec::new(),
        }),
    }
}

/// Adds a header to a message.
pub fn with_header(mut delivery: Delivery, name: &str, value: &str) -> Delivery {
    let Action::Message(message) = &mut delivery.action else {
        unreachable!()
    };
    message.headers.push((name.to_owned(), value.to_owned()));
    delivery
}

/// Returns each outcome as a word, for comparing.
pub fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Written => "written",
        Outcome::Unchanged => "unchanged",
        Outcome::Failed(fault) => match fault.verdict {
            Verdict::Later => "later",
            Verdict::Silent => "silent",
            Verdict::Clash => "clash",
            Verdict::Never => "never",
            Verdict::Down => "down",
        },
    };
    outcomes.iter().map(word).collect()
}

/// Returns the reason of the last outcome, which is a failure.
#[track_caller]
pub fn reason(outcomes: &[Outcome]) -> String {
    match outcomes.last() {
        Some(Outcome::Failed(fault)) => fault.reason.clone(),
        other => panic!("no failure at the end: {other:?}"),
    }
}

/// Returns a port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A server as a child process, which ends with this value and also when the test is killed.
#[derive(Debug)]
pub struct Server {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Server {
    /// Starts `command`; its output goes to standard output, which [`Server::output`] hands out.
    ///
    /// A shell stands between: it waits for the end of its input, which comes whatever becomes of this process.
    pub fn start(package: &str, command: &[&str]) -> Server {
        let is_there = Command::new("sh")
            .env("PATH", super::slapd::search_path())
            .args(["-c", "command -v \"$0\"", command[0]])
            .output()
            .unwrap();
        assert!(
            is_there.status.success(),
            "the test needs `{}`: apt-get install --no-install-recommends {package} (or tools/provision.sh)",
            command[0]
        );
        let script =
            "\"$@\" 2>&1 </dev/null & server=$!; cat >/dev/null; kill -9 $server; wait $server 2>/dev/null; exit 0";
        let mut shell = Command::new("sh")
            .env("PATH", super::slapd::search_path())
            .args(["-c", script, "sh"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lifeline = shell.stdin.take();
        Server { shell, lifeline }
    }

    /// Returns what the server says, until `is_ready` likes it; the rest is read and thrown away.
    pub fn output(&mut self, is_ready: impl Fn(&str) -> bool) -> String {
        let mut pipe = self.shell.stdout.take().expect("taken once");
        let mut said = String::new();
        let mut part = [0; 4096];
        while !is_ready(&said) {
            let length = pipe.read(&mut part).unwrap();
            assert!(length > 0, "the server ended: {said}");
            said += &String::from_utf8_lossy(&part[..length]);
        }
        std::thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
        said
    }

    pub fn stop(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ = lifeline.flush();
            drop(lifeline);
            let _ = self.shell.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts something that says `answer` to whatever it is told first, and hangs up; returns its port.
pub fn answering(answer: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

/// Returns a certificate for this machine and its key, as PEM; it is its own authority.
pub fn certificate() -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Returns what a TLS server needs to show `certificate`.
pub fn tls_server(certificate: &(String, String)) -> std::sync::Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_slice(certificate.0.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.1.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    std::sync::Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}
