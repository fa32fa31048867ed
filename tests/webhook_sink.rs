//! The webhook against a real web service: what arrives, what is signed, what a refusal leads to, and what never shows.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use emaj::sink::{Delivery, Outcome, Verdict};
use sha2::{Digest as _, Sha256};

use crate::support::receiver::{Answer, Receiver, status};
use crate::support::sinks::{
    answering, certificate, event, free_port, plain, reason, sink, tls_server, try_sink, with_header, words,
};

fn hook(receiver: &Receiver, more: &str) -> String {
    format!("{{ webhook: {{ url: \"{}\", timeout: 5{more} }} }}", receiver.url())
}

fn events(count: usize) -> Vec<Delivery> {
    (0..count)
        .map(|at| event(&format!("e{at}"), "", &format!("k{at}")))
        .collect()
}

/// HMAC-SHA256 (RFC 2104) from the hash alone, so that the test computes it in another way than the sink.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .to_vec()
}

#[test]
fn each_event_is_a_signed_request_on_one_connection() {
    let receiver = Receiver::start(|_, _| status(204));
    let key = b"0123456789abcdef01234567";
    let secret = format!("whsec_{}", BASE64_STANDARD.encode(key));
    let settings = hook(
        &receiver,
        ", secret: \"${env:KEY}\", headers: { x-team: \"${env:TEAM}\" }",
    );
    let opener = sink(&settings, &[("KEY", &secret), ("TEAM", "shop")]);
    assert_eq!(opener.lanes(), 4);
    let mut sink = opener.open().unwrap();
    let batch = [
        event("e1", "", "1"),
        with_header(plain("e2", "", "2", "caf\u{e9}"), "X-Name", "Ren\u{e9}e"),
        plain("e3", "", "3", "[1]"),
        with_header(plain("e4", "", "4", "<a/>"), "Content-Type", "text/xml"),
    ];
    assert_eq!(words(&sink.deliver(&batch)), ["written"; 4]);
    let got = receiver.got();
    assert_eq!(got.len(), 4);
    for (at, request) in got.iter().enumerate() {
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.connection),
            ("POST", "/hook", 0)
        );
        assert_eq!(request.header("webhook-id"), format!("e{}", at + 1));
        assert_eq!(request.header("x-team"), "shop");
        let (id, time) = (request.header("webhook-id"), request.header("webhook-timestamp"));
        assert!(jiff::Timestamp::now().as_second() - time.parse::<i64>().unwrap() < 60);
        let signed = hmac(key, format!("{id}.{time}.{}", request.body).as_bytes());
        assert_eq!(
            request.header("webhook-signature"),
            format!("v1,{}", BASE64_STANDARD.encode(signed))
        );
    }
    assert_eq!(got[0].json()["id"], "e1");
    assert_eq!(
        got[0].header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    assert_eq!(
        (got[1].body.as_str(), got[1].header("x-name")),
        ("caf\u{e9}", "Ren\u{e9}e")
    );
    assert_eq!(got[1].header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(got[2].header("content-type"), "application/json");
    assert_eq!(got[3].header("content-type"), "text/xml");
}

#[test]
fn a_batch_is_an_array_and_the_same_batch_has_the_same_id() {
    let receiver = Receiver::start(|_, _| status(200));
    let mut sink = sink(&hook(&receiver, ", batch: 3"), &[]).open().unwrap();
    let mut batch = events(4);
    batch.insert(2, plain("own", "", "own", "hello"));
    assert_eq!(words(&sink.deliver(&batch)), ["written"; 5]);
    assert_eq!(words(&sink.deliver(&batch[..2])), ["written"; 2]);
    let got = receiver.got();
    let sizes: Vec<_> = got
        .iter()
        .map(|request| (request.header("content-type"), request.body.len()))
        .collect();
    assert_eq!(got.len(), 4, "{sizes:?}");
    let ids = |at: usize| -> Vec<String> {
        got[at]
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(0), ["e0", "e1"]);
    assert_eq!((got[1].body.as_str(), got[1].header("webhook-id")), ("hello", "own"));
    assert_eq!(ids(2), ["e2", "e3"]);
    assert_eq!(
        got[0].header("content-type"),
        "application/cloudevents-batch+json; charset=utf-8"
    );
    assert_eq!(got[0].header("webhook-id"), got[3].header("webhook-id"));
    assert_ne!(got[0].header("webhook-id"), got[2].header("webhook-id"));
}

#[test]
fn a_poisoned_event_is_found_in_its_batch_and_what_is_behind_it_waits() {
    let receiver = Receiver::start(|_, request| {
        let is_poisoned = request.body.contains("\"e5\"");
        if is_poisoned {
            Answer::Say(422, "", "e5 is \"bad\"\n\n for us".to_owned())
        } else {
            status(200)
        }
    });
    let mut sink = sink(&hook(&receiver, ", batch: 8"), &[]).open().unwrap();
    let mut batch = events(8);
    // Of the poisoned one's key.
    batch[6] = event("e6", "", "k5");
    let outcomes = sink.deliver(&batch);
    let mut expected = ["written"; 8];
    expected[5] = "never";
    expected[6] = "later";
    assert_eq!(words(&outcomes), expected);
    let reason = reason(&outcomes[..6]);
    assert!(
        reason.contains("422") && reason.contains("e5 is \"bad\" for us"),
        "{reason}"
    );
    let taken: Vec<String> = receiver
        .got()
        .iter()
        .filter(|request| !request.body.contains("\"e5\""))
        .flat_map(|request| {
            let json = request.json();
            json.as_array()
                .unwrap()
                .iter()
                .map(|event| event["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(taken, ["e0", "e1", "e2", "e3", "e4", "e7"], "each once, in order");
}

#[test]
fn an_event_that_a_program_stumbles_over_does_not_hold_up_the_others() {
    let receiver = Receiver::start(|_, request| status(if request.body.contains("\"e2\"") { 500 } else { 200 }));
    let mut sink = sink(&hook(&receiver, ", batch: 4"), &[]).open().unwrap();
    assert_eq!(
        words(&sink.deliver(&events(4))),
        ["written", "written", "later", "written"]
    );
}

#[test]
fn a_service_that_refuses_all_is_not_asked_for_each() {
    let receiver = Receiver::start(|_, _| status(500));
    let mut sink = sink(&hook(&receiver, ", batch: 100"), &[]).open().unwrap();
    assert_eq!(words(&sink.deliver(&events(100))), ["later"; 100]);
    assert!(receiver.got().len() < 20, "{}", receiver.got().len());
}

#[test]
fn what_a_status_causes() {
    let cases = [
        (200, "written"),
        (202, "written"),
        (301, "down"),
        (308, "down"),
        (400, "never"),
        (401, "down"),
        (403, "down"),
        (404, "down"),
        (405, "down"),
        (407, "down"),
        (408, "later"),
        (410, "down"),
        (413, "never"),
        (415, "never"),
        (418, "never"),
        (422, "never"),
        (425, "later"),
        (429, "down"),
        (500, "later"),
        (502, "down"),
        (503, "down"),
        (504, "down"),
        (599, "later"),
    ];
    let receiver =
        Receiver::start(move |number, _| Answer::Say(cases[number].0, "location: /elsewhere\r\n", String::new()));
    let opener = sink(&hook(&receiver, ""), &[]);
    for (status, expected) in cases {
        let outcomes = opener.open().unwrap().deliver(&events(1));
        assert_eq!(words(&outcomes), [expected], "{status}");
    }
    assert!(
        receiver.got().iter().all(|request| request.path == "/hook"),
        "redirects are not followed"
    );
}

/// Where a service has moved to is told, and not the secrets that it sends along.
#[test]
fn a_redirect_says_where_the_service_has_moved_to() {
    let moved = "location: https://user:canary-a@there.example/v2/events?token=canary-b\r\n";
    let receiver = Receiver::start(move |number, _| {
        let status = [301, 302, 303, 307, 308, 308, 304][number];
        let body = "<a href=\"https://user:canary-a@there.example/v2/events?token=canary-b\">here</a>";
        match number {
            5 => Answer::Say(status, "", String::new()),
            6 => Answer::Say(status, moved, String::new()),
            _ => Answer::Say(status, moved, body.to_owned()),
        }
    });
    let opener = sink(&hook(&receiver, ""), &[]);
    let said: Vec<String> = (0..4)
        .map(|_| reason(&opener.open().unwrap().deliver(&events(1))))
        .collect();
    let answers = [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
    ];
    for (said, answer) in said.iter().zip(answers) {
        let expected = format!(
            "http://127.0.0.1:{} answered {answer}: a redirect to `https://there.example/v2/events`; redirects are not followed (hint: correct \
             the `url`)",
            receiver.port
        );
        assert_eq!(*said, expected);
    }
    let mut sink = opener.open().unwrap();
    let findings = format!("{:?}", sink.probe().unwrap());
    assert!(
        findings.contains("it answered 308 to a HEAD request: a redirect to `https://there.example/v2/events`;")
            && !findings.contains("canary"),
        "{findings}"
    );
    // One that does not say where, and an answer that is none.
    assert!(
        reason(&sink.deliver(&events(1))).contains("308 Permanent Redirect: a redirect; redirects are not followed")
    );
    assert!(sink.probe().unwrap().iter().all(|finding| finding.problem.is_none()));
}

#[test]
fn down_ends_the_batch_and_says_how_long_to_wait() {
    let receiver = Receiver::start(|number, _| match number {
        2 => Answer::Say(503, "retry-after: 17\r\n", "over\u{7}loaded".to_owned()),
        _ => status(200),
    });
    let mut sink = sink(&hook(&receiver, ""), &[]).open().unwrap();
    let outcomes = sink.deliver(&events(5));
    assert_eq!(words(&outcomes), ["written", "written", "down"]);
    assert_eq!(receiver.got().len(), 3);
    let Outcome::Failed(fault) = &outcomes[2] else {
        unreachable!()
    };
    assert_eq!(fault.pause, Some(Duration::from_secs(17)));
    assert_eq!(
        fault.reason,
        format!(
            "http://127.0.0.1:{} answered 503 Service Unavailable: over loaded",
            receiver.port
        )
    );
}

#[test]
fn a_service_that_is_away_slow_or_breaks_off_is_down_and_can_come_back() {
    let port = free_port();
    let settings = format!("{{ webhook: {{ url: \"http://127.0.0.1:{port}/\", timeout: 1 }} }}");
    let opener = sink(&settings, &[]);
    let outcomes = opener.open().unwrap().deliver(&events(2));
    assert_eq!(words(&outcomes), ["down"]);
    assert!(
        reason(&outcomes).to_lowercase().contains("refused"),
        "{}",
        reason(&outcomes)
    );
    // Whatever is asked, a word that it is there too.
    let receiver = Receiver::listen(port, None, |number, _| match number {
        0 | 1 => Answer::Reset,
        2 | 3 => Answer::Late(Duration::from_secs(3), 200),
        _ => status(200),
    });
    assert_eq!(words(&opener.open().unwrap().deliver(&events(2))), ["down"]);
    let begin = Instant::now();
    let outcomes = opener.open().unwrap().deliver(&events(2));
    assert_eq!(words(&outcomes), ["down"]);
    assert!(
        reason(&outcomes).ends_with("no answer within 1 s"),
        "{}",
        reason(&outcomes)
    );
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_eq!(words(&opener.open().unwrap().deliver(&events(2))), ["written"; 2]);
    let got = receiver.got();
    let posts = got.iter().filter(|request| request.method == "POST");
    let ids: Vec<&str> = posts.map(|request| request.header("webhook-id")).collect();
    assert_eq!(ids, ["e0", "e0", "e0", "e1"]);
}

/// The ids of the events that were sent, each as often as it was.
fn posted(receiver: &Receiver) -> Vec<String> {
    let got = receiver.got();
    let posts = got.iter().filter(|request| request.method == "POST");
    posts
        .flat_map(|request| match request.json() {
            serde_json::Value::Array(events) => events,
            event => vec![event],
        })
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_event_that_gets_no_answer_does_not_hold_up_the_others() {
    for silence in [|| Answer::Reset, || Answer::Late(Duration::from_secs(4), 200)] {
        let receiver = Receiver::start(move |_, request| match request.body.contains("\"e2\"") {
            true => silence(),
            false => status(200),
        });
        let opener = sink(
            &format!("{{ webhook: {{ url: \"{}\", timeout: 1 }} }}", receiver.url()),
            &[],
        );
        let mut batch = events(5);
        // Of its key.
        batch[4] = event("e4", "", "k2");
        let outcomes = opener.open().unwrap().deliver(&batch);
        assert_eq!(words(&outcomes), ["written", "written", "silent", "written", "later"]);
        let reason = reason(&outcomes[..3]);
        assert!(
            reason.contains("can be reached, and gives no answer each time this is sent"),
            "{reason}"
        );
        assert_eq!(
            posted(&receiver),
            ["e0", "e1", "e2", "e2", "e3"],
            "nothing else is sent twice"
        );
    }
}

#[test]
fn an_event_that_gets_no_answer_is_found_in_its_batch() {
    let receiver = Receiver::start(|_, request| match request.body.contains("\"e5\"") {
        true => Answer::Reset,
        false => status(200),
    });
    let mut sink = sink(&hook(&receiver, ", batch: 8"), &[]).open().unwrap();
    let mut expected = ["written"; 8];
    expected[5] = "silent";
    assert_eq!(words(&sink.deliver(&events(8))), expected);
}

#[test]
fn an_old_connection_that_was_closed_is_no_fault_of_the_event() {
    let receiver = Receiver::start(|number, _| if number == 1 { Answer::Reset } else { status(200) });
    let mut sink = sink(&hook(&receiver, ""), &[]).open().unwrap();
    assert_eq!(words(&sink.deliver(&events(3))), ["written"; 3]);
    assert_eq!(posted(&receiver), ["e0", "e1", "e1", "e2"]);
}

#[test]
fn a_service_that_answers_no_event_at_all_is_down() {
    let receiver = Receiver::start(|_, request| match request.method.as_str() {
        "POST" => Answer::Reset,
        _ => status(405),
    });
    let mut sink = sink(&hook(&receiver, ""), &[]).open().unwrap();
    let outcomes = sink.deliver(&events(9));
    assert_eq!(words(&outcomes), ["silent", "silent", "silent", "down"]);
    assert!(
        reason(&outcomes[3..]).ends_with("answers no event"),
        "{}",
        reason(&outcomes[3..])
    );
}

#[test]
fn a_value_cannot_become_a_header() {
    let receiver = Receiver::start(|_, _| status(200));
    let mut sink = sink(&hook(&receiver, ""), &[]).open().unwrap();
    for hostile in [
        "x\r\nx-admin: yes",
        "x\nx-admin: yes",
        "x\rx-admin: yes",
        "x\0",
        "x\r\n\r\n{}",
    ] {
        let batch = [
            with_header(event("e1", "", "1"), "x-name", hostile),
            event("e2", "", "1"),
            event("e3", "", "2"),
        ];
        let outcomes = sink.deliver(&batch);
        assert_eq!(words(&outcomes), ["never", "later", "written"], "{hostile:?}");
        assert!(!reason(&outcomes[..1]).contains("admin") && sink.preview(&batch).is_err());
    }
    for name in [
        "content-length",
        "Host",
        "Transfer-Encoding",
        "webhook-id",
        "a b",
        "a\r\nb",
    ] {
        let batch = [with_header(event("e1", "", "1"), name, "1")];
        assert_eq!(words(&sink.deliver(&batch)), ["never"], "{name:?}");
    }
    assert!(receiver.got().iter().all(|request| request.all("x-admin").is_empty()));
    // What a header can hold arrives as it is.
    let value = "a*)(uid=*; O'Brien'); DROP TABLE \u{1f980}\u{e9}\t\"";
    assert_eq!(
        words(&sink.deliver(&[with_header(event("e9", "", "9"), "x-name", value)])),
        ["written"]
    );
    assert_eq!(receiver.got().last().unwrap().header("x-name"), value);
}

#[test]
fn tls_is_verified_by_the_authority_of_the_manifest() {
    let certificate = certificate();
    let receiver = Receiver::start_tls(tls_server(&certificate), |_, _| status(200));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, &certificate.0).unwrap();
    let settings = |host: &str, more: &str| {
        format!(
            "{{ webhook: {{ url: \"https://{host}:{}/\", timeout: 5{more} }} }}",
            receiver.port
        )
    };
    let ca_file = format!(", ca_file: \"{}\"", file.display());
    for host in ["localhost", "127.0.0.1"] {
        let mut trusting = sink(&settings(host, &ca_file), &[]).open().unwrap();
        assert_eq!(words(&trusting.deliver(&events(2))), ["written"; 2]);
    }
    // (Another authority, so that the test does not depend on the system's.)
    std::fs::write(&file, crate::support::sinks::certificate().0).unwrap();
    let outcomes = sink(&settings("localhost", &ca_file), &[])
        .open()
        .unwrap()
        .deliver(&events(1));
    assert_eq!(words(&outcomes), ["down"]);
    let hint = "ca.pem` (`ca_file`) does not hold the authority that signed the server's certificate)";
    assert!(reason(&outcomes).ends_with(hint), "{}", reason(&outcomes));
    let said = |settings: &str| reason(&sink(settings, &[]).open().unwrap().deliver(&events(1)));
    let hint = "(hint: name the file of the authority that signed the server's certificate as `ca_file`)";
    let without = said(&settings("localhost", ""));
    assert!(without.ends_with(hint), "{without}");
    // The one speaks TLS only, the other one none.
    let clear = said(&settings("localhost", "").replace("https:", "http:"));
    assert!(
        clear.ends_with("(hint: is this a port for TLS? `url` begins with `https://` then)"),
        "{clear}"
    );
    for answer in ["HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", ""] {
        let port = answering(answer);
        let wrong = said(&format!(
            "{{ webhook: {{ url: \"https://localhost:{port}/\", timeout: 5 }} }}"
        ));
        let hint = "(hint: does this port speak TLS? `url` begins with `http://` where it does not)";
        assert!(wrong.ends_with(hint), "{wrong}");
    }
    std::fs::write(&file, "no PEM").unwrap();
    let fault = sink(&settings("localhost", &ca_file), &[]).open().err().unwrap();
    assert_eq!(fault.verdict, Verdict::Down);
    assert!(fault.reason.contains("holds no certificate"), "{fault}");
}

#[test]
fn secrets_never_show() {
    let receiver = Receiver::start(|_, request| {
        let said = format!("{:?} {} not good: canary-token", request.headers, request.path);
        Answer::Say(if request.method == "HEAD" { 401 } else { 400 }, "", said)
    });
    let url = format!(
        "http://canary-user:canary-login@127.0.0.1:{}/services/canary-path?token=canary-query",
        receiver.port
    );
    let settings = "{ webhook: { url: \"${env:URL}\", secret: \"${env:KEY}\", headers: { authorization: \"Bearer ${env:TOKEN}\" } } }";
    let variables = [("URL", url.as_str()), ("KEY", "canary-key"), ("TOKEN", "canary-token")];
    let opener = sink(settings, &variables);
    let mut open = opener.open().unwrap();
    let mut said = vec![opener.describe()];
    said.extend(open.preview(&events(1)).unwrap());
    said.extend(open.deliver(&events(1)).iter().map(|outcome| format!("{outcome:?}")));
    said.push(format!("{:?}", open.probe()));
    let away = format!("http://canary-user:canary-login@127.0.0.1:{}/canary-path", free_port());
    let away = sink(settings, &[("URL", &away), variables[1], variables[2]]);
    said.push(format!("{:?}", away.open().unwrap().deliver(&events(1))));
    assert!(receiver.got()[0].header("authorization").contains("canary-token"));
    assert!(said.iter().all(|said| !said.contains("canary")), "{said:#?}");
}

/// A service quotes what it likes of the URL: a piece of the path, the value of a parameter, as it came or decoded.
#[test]
fn pieces_of_the_url_never_show() {
    let said = "no hook of T000 at canary-path, canary%2Dpath, canary/dir or canary%2Fdir; \
                canary query!, canary+query%21, canary+query! and canary1 are not valid in v2 as json";
    let receiver = Receiver::start(move |_, _| Answer::Say(400, "", said.to_owned()));
    let url = format!(
        "http://127.0.0.1:{}/hook/T000/canary%2Fdir/canary%2Dpath?token=canary+query%21&v2;as=json&n=canary1",
        receiver.port
    );
    let opener = sink("{ webhook: { url: \"${env:URL}\" } }", &[("URL", &url)]);
    let outcomes = opener.open().unwrap().deliver(&events(1));
    let said = "answered 400 Bad Request: no hook of T000 at ***, ***, *** or ***; ***, ***, *** and *** are not valid in v2 as json";
    assert!(reason(&outcomes).ends_with(said), "{}", reason(&outcomes));
}

#[test]
fn settings_that_cannot_be_used_are_named_all_at_once() {
    let settings =
        "{ webhook: { url: \"https://${env:NO_HOST}/\", secret: \"${env:KEY}\", headers: { x-a: \"${env:BAD}\" } } }";
    let error = try_sink(settings, &[("KEY", "whsec_canary!"), ("BAD", "canary\nx-b: 1")])
        .err()
        .unwrap();
    let text = error.to_string();
    assert_eq!(error.exit_code(), 65);
    for part in ["`NO_HOST` is not set", "no base64", "`x-a` holds a line break"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("canary"), "{text}");
    assert!(!text.contains("this is no URL"), "{text}");
    let whole = try_sink("{ webhook: { url: \"${env:NO_URL}\" } }", &[]).err().unwrap();
    let text = whole.to_string();
    assert!(
        text.contains("`NO_URL` is not set") && !text.contains("no URL"),
        "{text}"
    );
}

/// In a URL a password is percent-encoded; what logs in is the password itself.
#[test]
fn the_login_of_the_url_is_decoded() {
    let receiver = Receiver::start(|_, _| status(200));
    let authorization = |url: &str, more: &str| {
        let url = url.replace("HOST", &format!("127.0.0.1:{}", receiver.port));
        let sink = sink(
            &format!("{{ webhook: {{ url: \"${{env:URL}}\"{more} }} }}"),
            &[("URL", &url)],
        );
        let outcomes = sink.open().unwrap().deliver(&events(1));
        assert!(matches!(outcomes[..], [Outcome::Written]), "{outcomes:?}");
        receiver.got().pop().unwrap().header("authorization").to_owned()
    };
    let basic = |login: &[u8]| format!("Basic {}", BASE64_STANDARD.encode(login));
    assert_eq!(authorization("http://us:p%40s:%25@HOST/", ""), basic(b"us:p@s:%"));
    assert_eq!(authorization("http://us@HOST/", ""), basic(b"us:"));
    assert_eq!(authorization("http://u:%E9@HOST/", ""), basic(b"u:\xe9"));
    let own = ", headers: { Authorization: Bearer x }";
    assert_eq!(authorization("http://us:p%40@HOST/", own), "Bearer x");
}

#[test]
fn a_probe_and_a_preview_come_before_the_first_delivery() {
    let receiver = Receiver::start(|number, _| status(if number == 0 { 405 } else { 403 }));
    let mut sink = sink(&hook(&receiver, ", headers: { x-team: shop }"), &[])
        .open()
        .unwrap();
    let findings = sink.probe().unwrap();
    assert!(findings.iter().all(|finding| finding.problem.is_none()), "{findings:?}");
    assert!(sink.probe().unwrap()[0].problem.as_deref().unwrap().contains("403"));
    let line = sink
        .preview(&[with_header(event("e1", "", "7"), "x-n", "v")])
        .unwrap()
        .remove(0);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["address"], format!("http://127.0.0.1:{}", receiver.port));
    assert_eq!(
        (&line["key"], &line["body"]["id"], &line["headers"]["x-n"]),
        (&"7".into(), &"e1".into(), &"v".into())
    );
    assert_eq!(line["headers"]["x-team"], "***");
    assert_eq!(receiver.got().len(), 2, "the preview sends nothing");
}
