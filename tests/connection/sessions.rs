//! What an open session can do beyond a plain client: notices, siblings, cancelling, and errors with their kind.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use emaj::errors::{Error, Kind};
use emaj::pg::{Environment, Given, Prompt, Session, Settings, classify, classify_in, resolve};

use super::bin_dir;
use super::servers::Servers;

/// Settings by a connection string and nothing else.
pub(super) fn settings(servers: &Servers, uri: &str) -> Settings {
    let given = Given {
        uri: Some(servers.fill(uri).into()),
        ..Given::default()
    };
    let environment = Environment {
        variables: HashMap::new(),
        home: None,
        ..Environment::current().unwrap()
    };
    resolve(&given, None, &environment).unwrap()
}

fn session(servers: &Servers, uri: &str) -> Session {
    settings(servers, uri).connect(Prompt::Never).unwrap()
}

pub(super) fn text(session: &mut Session, sql: &str) -> String {
    session.query_one(sql, &[]).unwrap().get(0)
}

#[test]
fn notices_reach_the_handler_of_every_sibling() {
    let servers = Servers::shared();
    let (sender, receiver) = mpsc::channel();
    let settings = settings(&servers, "postgres://trusted@localhost:{MAIN}/shop");
    let mut first = settings
        .connect_with_notices(Prompt::Never, move |notice| sender.send(notice).unwrap())
        .unwrap();
    let mut second = first.sibling().unwrap();
    for (session, word) in [(&mut first, "one"), (&mut second, "two")] {
        let sql = format!("do $$ begin raise warning 'said {word}' using errcode = '01234'; end $$");
        session.batch_execute(&sql).unwrap();
        let notice = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(
            (notice.code, notice.message),
            ("01234".to_owned(), format!("said {word}"))
        );
    }
}

#[test]
fn being_idle_ends_no_session() {
    let uri = "postgres://trusted@localhost:{MAIN}/shop?options=-c%20idle_session_timeout%3D1h";
    assert_eq!(
        text(&mut session(&Servers::shared(), uri), "show idle_session_timeout"),
        "0"
    );
}

#[test]
fn a_sibling_is_on_the_same_server_and_a_reconnect_is_new() {
    let servers = Servers::shared();
    let uri = "postgres://scram_user:scram%20secret@localhost:{DEAD},localhost:{MAIN},localhost:{NAMED}/shop";
    let mut session = session(&servers, uri);
    let port = servers.fill("{MAIN}");
    assert!(
        session
            .settings()
            .describe()
            .ends_with(&format!("@localhost:{port}/shop")),
        "{session:?}"
    );
    assert!(session.is_encrypted());
    let mut sibling = session.sibling().unwrap();
    assert_eq!(text(&mut sibling, "select current_setting('port')"), port);
    assert_eq!(text(&mut sibling, "select current_setting('application_name')"), "emaj");

    let backend = |session: &mut Session| text(session, "select pg_backend_pid()::text");
    let before = backend(&mut session);
    let ended = session
        .batch_execute("select pg_terminate_backend(pg_backend_pid())")
        .unwrap_err();
    assert_eq!(Error::from(ended).kind(), Kind::Unreachable);
    let closed = session.batch_execute("select 1").unwrap_err();
    assert_eq!(classify(closed, "ask").kind(), Kind::Unreachable);
    session.reconnect().unwrap();
    assert_ne!(backend(&mut session), before);
    session.close().unwrap();
}

#[test]
fn a_running_statement_is_cancelled_with_and_without_tls() {
    let servers = Servers::shared();
    for mode in ["require", "disable"] {
        let mut session = session(
            &servers,
            &format!("postgres://trusted@localhost:{{MAIN}}/shop?sslmode={mode}"),
        );
        let canceller = session.canceller();
        let waiting = thread::spawn(move || session.batch_execute("select pg_sleep(60)").unwrap_err());
        // The cancel may come before the statement: it is repeated until there was something to cancel.
        while !waiting.is_finished() {
            canceller.cancel().unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        let error = Error::from(waiting.join().unwrap());
        // (Whether it was a signal to this program is known here, and not there.)
        assert_eq!(error.kind(), Kind::Failed, "{mode}");
        assert!(
            error.hints()[0].starts_with("somebody cancelled it"),
            "{mode}: {error:?}"
        );
    }
}

#[test]
fn what_the_server_says_becomes_an_error_with_its_kind() {
    let servers = Servers::shared();
    let mut holder = session(&servers, "postgres://postgres@localhost:{MAIN}/shop");
    holder.by_path_of_role().unwrap();
    holder
        .batch_execute("create table if not exists held (id int)")
        .unwrap();
    holder.batch_execute("begin; lock table held").unwrap();
    let mut session = session(&servers, "postgres://postgres@localhost:{MAIN}/shop");
    session.by_path_of_role().unwrap();
    session.batch_execute("set lock_timeout = '50ms'").unwrap();
    for (sql, kind, message) in [
        (
            "begin; lock table held",
            Kind::Locked,
            "failed to try: canceling statement due to lock timeout",
        ),
        (
            "set role trusted; create role x",
            Kind::Denied,
            "failed to try: permission denied to create role",
        ),
        (
            "set statement_timeout = 50; select pg_sleep(9)",
            Kind::Failed,
            "canceling statement due to statement timeout",
        ),
        ("select 1/0", Kind::Failed, "failed to try: division by zero"),
        (
            "select *\nfrom nowhere",
            Kind::Failed,
            "relation \"nowhere\" does not exist at line 2, column 6: `from nowhere`",
        ),
        (
            "do $$ begin perform 1 from nowhere; end $$",
            Kind::Failed,
            "does not exist at line 1, column",
        ),
        (
            "do $$ begin raise 'no' using detail = 'why', hint = 'do this'; end $$",
            Kind::Failed,
            "failed to try: no (why)",
        ),
    ] {
        let error = session.batch_execute(sql).unwrap_err();
        let error = classify_in(error, "try", sql);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(message), "{error}\nhas not\n{message}");
        let hint = match sql {
            _ if sql.contains("raise") => Some("do this"),
            _ if sql.contains("timeout") => Some(
                "somebody cancelled it, or `statement_timeout` of the role, the database or PGOPTIONS ended it (`PGOPTIONS='-c statement_timeout=0'` lifts it for one command)",
            ),
            _ => None,
        };
        let found = error.hints().first().map(|hint| hint.split(';').next().unwrap());
        assert_eq!(found, hint, "{sql}");
        session
            .batch_execute("rollback; reset role; reset statement_timeout")
            .unwrap();
    }
}

#[test]
fn a_failed_connection_says_what_was_tried_and_what_to_do() {
    let servers = Servers::shared();
    let fails = |uri: &str| settings(&servers, uri).connect(Prompt::Never).unwrap_err();

    let error = fails("postgres://trusted@/shop?host=127.0.0.1,/nowhere,not.a.host.invalid&port={DEAD}");
    assert_eq!(error.kind(), Kind::Unreachable);
    let port = servers.fill("{DEAD}");
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(
        lines[0],
        format!("failed to connect to `trusted@127.0.0.1:{port},/nowhere:{port},not.a.host.invalid:{port}/shop`")
    );
    assert!(
        lines[1].starts_with(&format!("  127.0.0.1:{port}: Connection refused")),
        "{error}"
    );
    assert!(
        lines[2].starts_with(&format!("  /nowhere:{port}: No such file")),
        "{error}"
    );
    assert!(lines[3].contains("the host name cannot be looked up"), "{error}");

    let error = fails("postgres://scram_user@localhost:{MAIN}/shop");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(
        error
            .to_string()
            .ends_with("the server wants a password, and none is given"),
        "{error}"
    );
    assert!(
        error.hints()[0].contains("`PGPASSWORD`") && error.hints()[0].contains("~/.pgpass"),
        "{:?}",
        error.hints()
    );

    let error = fails("postgres://crowded@localhost:{MAIN}/shop");
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.hints()[0].contains("`connection limit`"), "{:?}", error.hints());

    let error = fails("postgres://scram_user:hunter2@localhost:{MAIN}/shop");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");

    let error = fails("postgres://trusted@127.0.0.1:{MAIN}/shop?sslmode=verify-full&sslrootcert={DIR}/ca.crt");
    let expected = "the server's certificate is for `localhost`, `*.example.org`, `irrelevant` and not for `127.0.0.1`";
    assert!(error.to_string().contains(expected), "{error}");

    let error = fails("postgres://trusted@localhost:{MAIN}/shop?sslmode=verify-ca&sslrootcert={DIR}/alone.crt");
    assert!(
        error
            .to_string()
            .ends_with("is not accepted: no root certificate stands behind it"),
        "{error}"
    );

    // A known difference: psql believes a root of X.509 version 1 in the server's place.
    let error = fails("postgres://trusted@localhost:{OLD}/shop?sslmode=verify-ca&sslrootcert={DIR}/old.crt");
    assert!(
        error.to_string().contains("the server's certificate is not accepted"),
        "{error}"
    );

    let mut psql = Command::new(bin_dir().join("psql"));
    psql.args(["-X", "-w", "-c", "select 1"])
        .arg(servers.fill("postgres://trusted@localhost:{OLD}/shop?sslmode=verify-ca&sslrootcert={DIR}/old.crt"));
    assert!(psql.env("HOME", "/nowhere").output().unwrap().status.success());

    // A prompt that is forced has nobody to ask in a test without a terminal.
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let error = settings(&servers, "postgres://trusted@localhost:{MAIN}/shop")
            .connect(Prompt::Always)
            .unwrap_err();
        assert_eq!((error.kind(), error.hints().len()), (Kind::Denied, 1));
    }
}

/// Runs on the terminal that the test below makes; says on it what came of the connection.
#[test]
#[ignore = "is run by `a_password_is_asked_for_on_a_terminal`"]
fn connects_on_a_terminal() {
    let uri = std::env::var("CONNECT_TO").unwrap();
    let prompt = match std::env::var("CONNECT_PROMPT").unwrap().as_str() {
        "always" => Prompt::Always,
        "never" => Prompt::Never,
        _ => Prompt::WhenWanted,
    };
    let given = Given {
        uri: Some(uri.into()),
        ..Given::default()
    };
    let environment = Environment {
        variables: HashMap::new(),
        home: None,
        ..Environment::current().unwrap()
    };
    let connected = resolve(&given, None, &environment).unwrap().connect(prompt);
    // A sibling needs the password too, and must not ask again.
    let said = connected
        .and_then(|session| session.sibling())
        .map_or_else(|error| error.to_string(), |_| "is in".to_owned());
    println!("OUTCOME: {said}");
}

#[test]
fn a_password_is_asked_for_on_a_terminal() {
    let servers = Servers::shared();
    let wants = "postgres://scram_user@localhost:{MAIN}/shop";
    let knows = "postgres://scram_user:scram%20secret@localhost:{MAIN}/shop";
    for (uri, prompt, typed, asked, outcome) in [
        (wants, "when wanted", "scram secret", true, "is in"),
        (wants, "when wanted", "wrong", true, "password authentication failed"),
        (
            wants,
            "never",
            "",
            false,
            "the server wants a password, and none is given",
        ),
        (wants, "always", "scram secret", true, "is in"),
        (knows, "when wanted", "", false, "is in"),
        (knows, "always", "wrong", true, "password authentication failed"),
    ] {
        let seen = on_a_terminal(&servers.fill(uri), prompt, typed);
        assert_eq!(
            seen.contains("Password for user scram_user: "),
            asked,
            "{prompt}: {seen}"
        );
        let said = seen
            .split("OUTCOME: ")
            .nth(1)
            .unwrap_or_else(|| panic!("{prompt}: {seen}"));
        assert!(said.contains(outcome), "{prompt}: {seen}");
        assert!(
            typed.is_empty() || !seen.contains(typed),
            "the password is echoed: {seen}"
        );
    }
}

/// Runs the test above on a terminal of its own, types when it is asked, and returns what the terminal showed.
fn on_a_terminal(uri: &str, prompt: &str, typed: &str) -> String {
    let this = std::env::current_exe().unwrap();
    // As a module of a larger test binary, the path before `sessions` is longer.
    let module = module_path!().split_once("::").map_or("", |(_, inner)| inner);
    let command = format!(
        "{} --exact {module}::connects_on_a_terminal --ignored --nocapture",
        this.display()
    );
    let mut script = Command::new("script");
    script
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env("CONNECT_TO", uri)
        .env("CONNECT_PROMPT", prompt);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut terminal = child.stdin.take().unwrap();
    let (mut screen, mut seen, mut answered) = (child.stdout.take().unwrap(), Vec::new(), false);
    let mut block = [0; 1024];
    loop {
        match screen.read(&mut block).unwrap() {
            0 => break,
            count => seen.extend_from_slice(&block[..count]),
        }
        if !answered && String::from_utf8_lossy(&seen).contains("Password for user") {
            // The echo goes off just after the prompt is shown; nobody types as fast as a test.
            thread::sleep(Duration::from_millis(300));
            terminal.write_all(format!("{typed}\n").as_bytes()).unwrap();
            answered = true;
        }
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&seen).into_owned()
}
