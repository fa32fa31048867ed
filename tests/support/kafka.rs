//! A Kafka cluster: the mock broker of librdkafka, which `kcat` starts, behind a small proxy.
//!
//! The mock keeps and hands out records, but asks for no login and refuses nothing. So the proxy does: it answers SASL itself, refuses
//! requests that are too large, or all of a topic, and can be cut. It passes everything else on, and puts its own address in the place of the
//! broker's.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::sinks::Server;

/// What the proxy does of its own. Error codes are those of the protocol.
#[derive(Debug, Default)]
pub struct Rules {
    /// Larger produce requests are refused (10).
    pub largest: Option<usize>,
    /// Produce requests that hold these bytes are refused with the code.
    pub refuse: Option<(Vec<u8>, i16)>,
    /// SASL PLAIN's message that is let in.
    pub login: Option<Vec<u8>>,
    /// Produce requests get no answer.
    pub silent: bool,
    /// So many produce requests pass, and then the connection is cut, with the record written or not.
    pub cut_after: Option<usize>,
}

/// The cluster; it ends with this value.
pub struct Kafka {
    pub port: u16,
    broker: String,
    rules: Arc<Mutex<Rules>>,
    away: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    produced: Arc<AtomicUsize>,
    _server: Server,
}

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

impl Kafka {
    pub fn start() -> Kafka {
        Kafka::behind(None)
    }

    pub fn start_tls(config: Arc<rustls::ServerConfig>) -> Kafka {
        Kafka::behind(Some(config))
    }

    fn behind(tls: Option<Arc<rustls::ServerConfig>>) -> Kafka {
        let words = [
            "kcat",
            "-C",
            "-b",
            "x",
            "-t",
            "unused",
            "-q",
            "-u",
            "-X",
            "test.mock.num.brokers=1",
            "-X",
            "debug=mock",
        ];
        let mut server = Server::start("kcat", &words);
        let address = |said: &str| -> Option<String> {
            let (_, rest) = said.split_once("bootstrap.servers=")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        };
        let said = server.output(|said| address(said).is_some());
        let broker = address(&said).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let kafka = Kafka {
            port: listener.local_addr().unwrap().port(),
            broker,
            rules: Arc::default(),
            away: Arc::default(),
            open: Arc::default(),
            produced: Arc::default(),
            _server: server,
        };
        let (port, broker, rules) = (kafka.port, kafka.broker.clone(), kafka.rules.clone());
        let (away, open, produced) = (kafka.away.clone(), kafka.open.clone(), kafka.produced.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if away.load(Ordering::Acquire) {
                    continue;
                }
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (broker, rules, tls, produced) = (broker.clone(), rules.clone(), tls.clone(), produced.clone());
                let socket = stream.try_clone().unwrap();
                std::thread::spawn(move || {
                    let ours = Ours {
                        port,
                        broker,
                        rules,
                        produced,
                    };
                    let _ = match tls {
                        None => ours.serve(stream),
                        Some(config) => ours.serve(rustls::StreamOwned::new(
                            rustls::ServerConnection::new(config).unwrap(),
                            stream,
                        )),
                    };
                    let _ = socket.shutdown(Shutdown::Both);
                });
            }
        });
        kafka
    }

    /// Makes a topic, which has four partitions: the mock makes what is asked about.
    pub fn topic(&self, name: &str) {
        self.kcat(&["-L", "-t", name]);
    }

    pub fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().unwrap());
    }

    /// Closes every connection and lets none in, until it is let be.
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns how many produce requests came.
    pub fn produced(&self) -> usize {
        self.produced.load(Ordering::Acquire)
    }

    /// Returns all records of a topic, as `kcat` sees them: partition, offset, key, headers, body.
    pub fn records(&self, topic: &str) -> Vec<(i32, i64, String, String, String)> {
        let format = "%p\x01%o\x01%k\x01%h\x01%s\x02";
        let said = self.kcat(&["-C", "-t", topic, "-e", "-q", "-o", "beginning", "-f", format]);
        let record = |record: &str| {
            let parts: Vec<&str> = record.split('\x01').collect();
            let text = |at: usize| parts[at].to_owned();
            (
                parts[0].parse().unwrap(),
                parts[1].parse().unwrap(),
                text(2),
                text(3),
                text(4),
            )
        };
        let mut records: Vec<_> = said.split_terminator('\x02').map(record).collect();
        records.sort();
        records
    }

    fn kcat(&self, words: &[&str]) -> String {
        let run = Command::new("kcat")
            .args(["-b", &self.broker])
            .args(words)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    }
}

/// One connection's view of the proxy.
struct Ours {
    port: u16,
    broker: String,
    rules: Arc<Mutex<Rules>>,
    produced: Arc<AtomicUsize>,
}

impl Ours {
    fn serve(&self, mut client: impl Read + Write) -> std::io::Result<()> {
        let mut broker = TcpStream::connect(&self.broker)?;
        let mut is_in = self.rules.lock().unwrap().login.is_none();
        loop {
            let request = frame(&mut client)?;
            let api = i16::from_be_bytes([request[0], request[1]]);
            let correlation = &request[4..8];
            let own = match api {
                SASL_HANDSHAKE => Some([&[0, 0][..], &1_i32.to_be_bytes(), &text("PLAIN")].concat()),
                SASL_AUTHENTICATE => {
                    let login = self.rules.lock().unwrap().login.clone().unwrap_or_default();
                    is_in = request.windows(login.len()).any(|part| part == login);
                    let code: i16 = if is_in { 0 } else { 58 };
                    let said = text("bad user or password");
                    Some(
                        [
                            &code.to_be_bytes()[..],
                            &said,
                            &0_i32.to_be_bytes(),
                            &0_i64.to_be_bytes(),
                        ]
                        .concat(),
                    )
                }
                PRODUCE => match self.refusal(&request)? {
                    Some(code) => Some(refused(&request, code)),
                    None if self.rules.lock().unwrap().silent => continue,
                    None => None,
                },
                _ => None,
            };
            // (Versions may be asked for before the login, as with the real one.)
            if !is_in && ![API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE].contains(&api) {
                return Ok(());
            }
            let answer = match own {
                Some(own) => [correlation, &own].concat(),
                None => {
                    send(&mut broker, &request)?;
                    let mut answer = frame(&mut broker)?;
                    if api == API_VERSIONS && self.rules.lock().unwrap().login.is_some() {
                        offer_sasl(&mut answer, request[3]);
                    }
                    if api == METADATA {
                        self.put_our_port(&mut answer);
                    }
                    if api == PRODUCE && self.is_cut() {
                        return Ok(());
                    }
                    answer
                }
            };
            send(&mut client, &answer)?;
        }
    }

    fn refusal(&self, request: &[u8]) -> std::io::Result<Option<i16>> {
        self.produced.fetch_add(1, Ordering::AcqRel);
        let rules = self.rules.lock().unwrap();
        let holds = |part: &[u8]| request.windows(part.len()).any(|found| found == part);
        Ok(match (&rules.largest, &rules.refuse) {
            (Some(largest), _) if request.len() > *largest => Some(10),
            (_, Some((part, code))) if holds(part) => Some(*code),
            _ => None,
        })
    }

    fn is_cut(&self) -> bool {
        let mut rules = self.rules.lock().unwrap();
        match rules.cut_after {
            Some(0) => {
                rules.cut_after = None;
                true
            }
            Some(left) => {
                rules.cut_after = Some(left - 1);
                false
            }
            None => false,
        }
    }

    /// Metadata says where the brokers are; a client is to come back through here.
    fn put_our_port(&self, answer: &mut [u8]) {
        let (host, port) = self.broker.split_once(':').unwrap();
        let theirs = [
            text(host),
            i32::from(port.parse::<u16>().unwrap()).to_be_bytes().to_vec(),
        ]
        .concat();
        let ours = i32::from(self.port).to_be_bytes();
        let places: Vec<usize> = (0..answer.len().saturating_sub(theirs.len() - 1))
            .filter(|at| answer[*at..].starts_with(&theirs))
            .collect();
        assert!(!places.is_empty(), "the mock says where it is");
        for at in places {
            answer[at + theirs.len() - 4..at + theirs.len()].copy_from_slice(&ours);
        }
    }
}

/// Returns the answer to a produce request (versions 5 to 7) of one topic and partition.
fn refused(request: &[u8], code: i16) -> Vec<u8> {
    let version = i16::from_be_bytes([request[2], request[3]]);
    assert!((5..=7).contains(&version), "{version}");
    // Header: api, version, correlation, client id. Body: transactional id, acks, time-out, topics.
    let mut at = 8;
    for _ in 0..2 {
        let length = i16::from_be_bytes([request[at], request[at + 1]]);
        at += 2 + usize::try_from(length).unwrap_or(0);
    }
    at += 2 + 4 + 4;
    let name = 2 + usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
    let topic = &request[at..at + name];
    let partition = &request[at + name + 4..at + name + 8];
    let one = 1_i32.to_be_bytes();
    let none = (-1_i64).to_be_bytes();
    [
        &one,
        topic,
        &one,
        partition,
        &code.to_be_bytes(),
        &none,
        &none,
        &none,
        &0_i32.to_be_bytes()[..],
    ]
    .concat()
}

/// Adds what the mock does not know to its list of requests: key, oldest and newest version each.
fn offer_sasl(answer: &mut Vec<u8>, version: u8) {
    let ours: [[i16; 3]; 2] = [[SASL_HANDSHAKE, 1, 1], [SASL_AUTHENTICATE, 0, 1]];
    let is_flexible = version >= 3;
    let added: Vec<u8> = ours
        .iter()
        .flat_map(|one| {
            one.iter()
                .flat_map(|part| part.to_be_bytes())
                .chain(is_flexible.then_some(0))
        })
        .collect();
    // Behind the correlation id and the error code: how many there are.
    let (count, list) = if is_flexible { (6, 7) } else { (9, 10) };
    answer[count] += 2;
    answer.splice(list..list, added);
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn frame(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn send(stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes())?;
    stream.write_all(bytes)?;
    stream.flush()
}
