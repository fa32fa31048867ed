//! A NATS server with JetStream, and a client of a few lines that speaks the protocol itself: the tests do not look through the
//! eyes of the library that they test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::sinks::{Server, free_port};

/// A server of the test's own; it ends with this value.
#[derive(Debug)]
pub struct Nats {
    pub port: u16,
    directory: TempDir,
    server: Option<Server>,
    login: Value,
}

impl Nats {
    pub fn start() -> Nats {
        Nats::with("", json!({}))
    }

    /// Starts one with more lines of configuration; `login` is what a client says to be let in.
    pub fn with(configuration: &str, login: Value) -> Nats {
        let directory = tempfile::Builder::new().prefix("emaj-nats-").tempdir().unwrap();
        std::fs::write(directory.path().join("nats.conf"), configuration).unwrap();
        let mut nats = Nats {
            port: free_port(),
            directory,
            server: None,
            login,
        };
        nats.up();
        nats
    }

    /// Writes a file into the server's directory and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Starts it (again), on the same port, with the same streams.
    pub fn up(&mut self) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let (port, data, configuration) = (self.port.to_string(), path("data"), path("nats.conf"));
        let words = [
            "nats-server",
            "-js",
            "-sd",
            &data,
            "-a",
            "127.0.0.1",
            "-p",
            &port,
            "-c",
            &configuration,
        ];
        let mut server = Server::start("nats-server", &words);
        server.output(|said| said.contains("Server is ready"));
        self.server = Some(server);
    }

    pub fn down(&mut self) {
        self.server = None;
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Asks JetStream.
    #[track_caller]
    pub fn ask(&self, subject: &str, question: &Value) -> Value {
        self.session().ask(subject, question)
    }

    fn session(&self) -> Session {
        let to = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        to.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let from = BufReader::new(to.try_clone().unwrap());
        let mut login = json!({ "verbose": false, "pedantic": false, "headers": true, "no_responders": true });
        login
            .as_object_mut()
            .unwrap()
            .extend(self.login.as_object().unwrap().clone());
        // (An inbox of its own: what others ask is none of its business.)
        let inbox = format!("inbox.{}", to.local_addr().unwrap().port());
        let mut session = Session { from, to, inbox };
        session.say(&format!("CONNECT {login}\r\nSUB {} 1\r\n", session.inbox));
        session
    }

    /// Makes a stream; `more` are its other settings.
    #[track_caller]
    pub fn stream(&self, name: &str, subjects: &[&str], more: Value) {
        let mut config =
            json!({ "name": name, "subjects": subjects, "storage": "file", "retention": "limits", "num_replicas": 1 });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = self.ask(&format!("STREAM.CREATE.{name}"), &config);
        assert!(answer["error"].is_null(), "{answer}");
    }

    #[track_caller]
    pub fn count(&self, stream: &str) -> u64 {
        let answer = self.ask(&format!("STREAM.INFO.{stream}"), &json!({}));
        answer["state"]["messages"]
            .as_u64()
            .unwrap_or_else(|| panic!("{answer}"))
    }

    /// Returns all messages that a stream holds: subject, headers as they are on the wire, body.
    pub fn messages(&self, stream: &str) -> Vec<(String, String, String)> {
        let text = |value: &Value| {
            let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let mut session = self.session();
        let one = |number: u64| {
            let answer = session.ask(&format!("STREAM.MSG.GET.{stream}"), &json!({ "seq": number }));
            let message = &answer["message"];
            assert!(message.is_object(), "{number}: {answer}");
            (
                message["subject"].as_str().unwrap().to_owned(),
                text(&message["hdrs"]),
                text(&message["data"]),
            )
        };
        (1..=self.count(stream)).map(one).collect()
    }
}

struct Session {
    from: BufReader<TcpStream>,
    to: TcpStream,
    inbox: String,
}

impl Session {
    fn say(&mut self, text: &str) {
        self.to.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn ask(&mut self, subject: &str, question: &Value) -> Value {
        let question = question.to_string();
        let length = question.len();
        self.say(&format!(
            "PUB $JS.API.{subject} {} {length}\r\n{question}\r\n",
            self.inbox
        ));
        loop {
            let mut line = String::new();
            let length = self.from.read_line(&mut line).unwrap();
            assert!(length > 0, "the server closed the connection");
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[0] {
                "MSG" => {
                    let mut bytes = vec![0; words[words.len() - 1].parse::<usize>().unwrap() + 2];
                    self.from.read_exact(&mut bytes).unwrap();
                    return serde_json::from_slice(&bytes).unwrap();
                }
                "PING" => self.say("PONG\r\n"),
                "INFO" => {}
                other => panic!("{other}: {line}"),
            }
        }
    }
}
