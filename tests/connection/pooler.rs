//! Behind a pooler: one that lends the server's connections for a transaction is refused before anything is set on them; one that
//! lends them for a session is as good as the server. The poolers here speak just enough of the protocol.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use emaj::errors::Kind;
use emaj::pg::Prompt;
use postgres::{Client, NoTls};

use super::servers::Servers;
use super::sessions::{settings, text};

/// What a pooler does with a client's `options`.
#[derive(Clone, Copy)]
enum Options {
    Refused,
    LeftOut,
}

/// How long a client keeps a connection of the server.
#[derive(Clone, Copy)]
enum Lends {
    ForATransaction,
    ForASession,
}

/// Starts a pooler before the server at `port`, and returns its own port. It ends with the test.
fn start(port: String, lends: Lends, options: Options) -> u16 {
    let listener = TcpListener::bind("localhost:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let pool = Arc::new(Mutex::new(to_server(&port).unwrap()));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (pool, port) = (Arc::clone(&pool), port.clone());
            thread::spawn(move || {
                let mut client = client?;
                if !greet(&mut client, options)? {
                    return Ok(());
                }
                match lends {
                    Lends::ForATransaction => serve(&mut client, || pool.lock().unwrap()),
                    Lends::ForASession => {
                        let own = Mutex::new(to_server(&port)?);
                        serve(&mut client, || own.lock().unwrap())
                    }
                }
            });
        }
    });
    own
}

/// Logs in as everybody, with nothing of what a client wants to be set.
fn to_server(port: &str) -> io::Result<TcpStream> {
    let mut server = TcpStream::connect(format!("localhost:{port}"))?;
    let parameters = b"\0\x03\0\0user\0trusted\0database\0shop\0\0";
    server.write_all(&framed(parameters))?;
    while message(&mut server)?.0 != b'Z' {}
    Ok(server)
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

fn body(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn message(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok((kind[0], body(stream)?))
}

fn send(stream: &mut TcpStream, kind: u8, body: &[u8]) -> io::Result<()> {
    stream.write_all(&[&[kind], framed(body).as_slice()].concat())
}

/// Lets a client in, unless its options are refused.
fn greet(client: &mut TcpStream, options: Options) -> io::Result<bool> {
    let wanted = body(client)?;
    let has_options = wanted.windows(9).any(|window| window == b"\0options\0");
    if matches!(options, Options::Refused) && has_options {
        let said = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        send(client, b'E', said)?;
        return Ok(false);
    }
    send(client, b'R', &[0; 4])?;
    send(client, b'K', &[0; 8])?;
    send(client, b'Z', b"I")?;
    Ok(true)
}

/// Hands on what a client says, with a connection that is borrowed until no transaction is open.
fn serve<'a>(client: &mut TcpStream, borrow: impl Fn() -> MutexGuard<'a, TcpStream>) -> io::Result<()> {
    loop {
        let mut said = message(client)?;
        if said.0 == b'X' {
            return Ok(());
        }
        let mut server = borrow();
        let mut state = vec![b'T'];
        while state != b"I" {
            send(&mut server, said.0, &said.1)?;
            if matches!(said.0, b'Q' | b'S') {
                state = answer(&mut server, client)?;
            }
            if state != b"I" {
                said = message(client)?;
            }
        }
    }
}

/// Hands on what the server answers, and returns whether a transaction is open then.
fn answer(server: &mut TcpStream, client: &mut TcpStream) -> io::Result<Vec<u8>> {
    loop {
        let (kind, body) = message(server)?;
        send(client, kind, &body)?;
        if kind == b'Z' {
            return Ok(body);
        }
    }
}

fn uri(port: u16) -> String {
    format!("postgres://trusted@localhost:{port}/shop?sslmode=disable")
}

#[test]
fn a_pooler_that_lends_for_a_transaction_is_refused_and_keeps_nothing() {
    let servers = Servers::shared();
    for options in [Options::Refused, Options::LeftOut] {
        let port = start(servers.fill("{MAIN}"), Lends::ForATransaction, options);
        let mut application = Client::connect(&uri(port), NoTls).unwrap();
        let mut path = || -> String { application.query_one("show search_path", &[]).unwrap().get(0) };
        let before = path();
        let error = settings(&servers, &uri(port)).connect(Prompt::Never).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error}");
        assert!(error.to_string().contains("pooler"), "{error}");
        assert_eq!(path(), before);
    }
}

#[test]
fn a_pooler_that_lends_for_a_session_is_as_good_as_the_server() {
    let servers = Servers::shared();
    for options in [Options::Refused, Options::LeftOut] {
        let port = start(servers.fill("{MAIN}"), Lends::ForASession, options);
        let mut session = settings(&servers, &uri(port)).connect(Prompt::Never).unwrap();
        assert_eq!(text(&mut session, "show search_path"), "pg_catalog, pg_temp");
        let mut sibling = session.sibling().unwrap();
        assert_ne!(
            text(&mut session, "select pg_backend_pid()::text"),
            text(&mut sibling, "select pg_backend_pid()::text")
        );
    }
}
