//! A web service for the webhook: keeps what it got, and answers what the test says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Which connection it came through, counted from 0.
    pub connection: usize,
}

impl Request {
    /// Returns a header that is there once.
    #[track_caller]
    pub fn header(&self, wanted: &str) -> &str {
        let found: Vec<&str> = self.all(wanted);
        assert_eq!(found.len(), 1, "{wanted}: {self:?}");
        found[0]
    }

    pub fn all(&self, wanted: &str) -> Vec<&str> {
        let is_it = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
        self.headers
            .iter()
            .filter(is_it)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the service does with a request.
pub enum Answer {
    /// A status, more header lines, a body.
    Say(u16, &'static str, String),
    /// The same, late.
    Late(Duration, u16),
    /// Nothing: the connection is reset.
    Reset,
}

pub fn status(status: u16) -> Answer {
    Answer::Say(status, "", String::new())
}

type Decide = dyn Fn(usize, &Request) -> Answer + Send + Sync;

/// A service on a port of 127.0.0.1; it ends with this value.
pub struct Receiver {
    pub port: u16,
    got: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    /// Listens; nothing listens to the port any more when it has ended.
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    /// Starts one; `decide` gets the number of the request, counted from 0, and the request.
    pub fn start(decide: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Receiver {
        Receiver::listen(0, None, decide)
    }

    pub fn start_tls(
        config: Arc<rustls::ServerConfig>,
        decide: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
    ) -> Receiver {
        Receiver::listen(0, Some(config), decide)
    }

    /// Starts one on a port of the test's choice.
    pub fn listen(
        port: u16,
        tls: Option<Arc<rustls::ServerConfig>>,
        decide: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let decide: Arc<Decide> = Arc::new(decide);
        let (all, is_over) = (got.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let (all, decide, tls) = (all.clone(), decide.clone(), tls.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || match tls {
                    None => serve(stream, connection, &all, &*decide),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(session, stream), connection, &all, &*decide);
                    }
                });
            }
        });
        Receiver {
            port,
            got,
            ended,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn got(&self) -> Vec<Request> {
        self.since(0)
    }

    /// Returns the requests behind the first `known` ones.
    pub fn since(&self, known: usize) -> Vec<Request> {
        self.got.lock().unwrap()[known..].to_vec()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the loop, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: impl Read + Write, connection: usize, all: &Mutex<Vec<Request>>, decide: &Decide) {
    let mut bytes: Vec<u8> = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        while let Some((request, used)) = whole(&bytes, connection) {
            bytes.drain(..used);
            let number = {
                let mut all = all.lock().unwrap();
                all.push(request.clone());
                all.len() - 1
            };
            let (status, more, body) = match decide(number, &request) {
                Answer::Say(status, more, body) => (status, more, body),
                Answer::Late(pause, status) => {
                    std::thread::sleep(pause);
                    (status, "", String::new())
                }
                Answer::Reset => return,
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{more}\r\n{body}");
            if stream
                .write_all(answer.as_bytes())
                .and_then(|()| stream.flush())
                .is_err()
            {
                return;
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(length) => bytes.extend_from_slice(&part[..length]),
        }
    }
}

/// Returns the first request when it is there whole, and how many bytes it took.
fn whole(bytes: &[u8], connection: usize) -> Option<(Request, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(begin) = parsed.parse(bytes).expect("a request of HTTP/1.1") else {
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), text(header.value)))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let body = bytes.get(begin..begin + length)?;
    let request = Request {
        method: parsed.method.unwrap().to_owned(),
        path: parsed.path.unwrap().to_owned(),
        headers,
        body: text(body),
        connection,
    };
    Some((request, begin + length))
}
