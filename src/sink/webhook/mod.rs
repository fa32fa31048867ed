//! HTTP POST to a web service: CloudEvents, signed after Standard Webhooks.
//!
//! One event is one request, or up to `batch` of them are one (`application/cloudevents-batch+json`); a body of the manifest's own is
//! always alone. What a status causes is in [`super::fault`]. A batch that is refused is halved until the event is found
//! that it was refused for, and so is one that gets no answer though the service is there. Redirects are not followed: a POST would lose its body or its receiver.

mod address;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use ureq::http::{HeaderValue, Method, Request, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use self::address::{basic, leads_to, login, secrets_of, shown};
use super::fault;
use super::message::{Round, check_headers, content_type, message, preview, says, with_own};
use super::settings::{References, Secrets};
use super::{Delivery, Fault, Finding, Lease, Message, Opener, Outcome, Sink, Verdict, trust};
use crate::errors::Result;
use crate::manifest::WebhookSink;
use crate::names::hex;
use crate::pg::Environment;
use crate::words::bytes;

const BATCH_TYPE: &str = "application/cloudevents-batch+json; charset=utf-8";

/// What to look at when the other side speaks no TLS, or nothing but TLS.
const NO_TLS: &str = "does this port speak TLS? `url` begins with `http://` where it does not";
const NO_HTTP: &str = "is this a port for TLS? `url` begins with `https://` then";

/// So many events that are refused one after the other, or get no answer, are no coincidence: the service as a whole is unwell.
const UNWELL: usize = 3;

/// How many events failed one after the other.
#[derive(Debug, Default)]
struct InARow {
    refused: usize,
    unanswered: usize,
}

/// How to reach a web service.
struct Settings {
    url: Uri,
    /// Scheme and host: what follows is often a secret.
    shown: String,
    key: Option<SigningKey>,
    headers: Vec<(String, SecretString)>,
    ca_file: Option<PathBuf>,
    batch: usize,
    connections: usize,
    timeout: Duration,
    secrets: Secrets,
}

/// The bytes that sign.
struct SigningKey(secrecy::SecretSlice<u8>);

/// Looks up the settings.
///
/// # Errors
/// References that lead nowhere; a URL, a key or a header that cannot be used.
pub(super) fn opener(sink: &WebhookSink, environment: &Environment) -> Result<Box<dyn Opener>> {
    let mut references = References::new(environment);
    let text = references.text(&sink.url);
    let url = match text.parse::<Uri>() {
        Ok(url) if matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some() => url,
        _ => {
            references.problem(sink.url.place(), "this is no URL", "write `https://HOST/PATH`");
            Uri::from_static("http://localhost")
        }
    };
    let mut secrets = secrets_of(&url);
    let key = sink.secret.as_ref().and_then(|secret| {
        let text = references.secret(secret);
        secrets.add(&text);
        let key = signing_key(text.expose_secret());
        if key.is_none() {
            let next = "write it as it was given, `whsec_` and base64; or any other text";
            references.problem(secret.place(), "what follows `whsec_` is no base64", next);
        }
        key
    });
    let mut headers = Vec::new();
    for (name, value) in &sink.headers {
        let text = references.secret(value);
        secrets.add(&text);
        // (Of `Bearer …` a service may repeat the second word alone.)
        if let Some((_, word)) = text.expose_secret().rsplit_once(' ') {
            secrets.add(&SecretString::from(word));
        }
        let header = [(name.clone(), text.expose_secret().to_owned())];
        if let Err(fault) = check_headers(&header, is_ours) {
            references.problem(value.place(), fault.reason, "take it out, or correct it");
        }
        headers.push((name.clone(), text));
    }
    let is_own = sink
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let Some(login) = login(&url).filter(|_| !is_own) {
        headers.push(("authorization".to_owned(), basic(login)));
    }
    let ca_file = sink.ca_file.as_ref().map(|file| references.file(file));
    references.finish()?;
    Ok(Box::new(Service(Arc::new(Settings {
        shown: shown(&url),
        url,
        key,
        headers,
        ca_file,
        batch: sink.batch as usize,
        connections: sink.connections as usize,
        timeout: Duration::from_secs(sink.timeout.into()),
        secrets,
    }))))
}

/// Returns the bytes of a key as Standard Webhooks writes it, or those of any other text.
fn signing_key(text: &str) -> Option<SigningKey> {
    let bytes = match text.strip_prefix("whsec_") {
        Some(encoded) => BASE64_STANDARD.decode(encoded).ok()?,
        None => text.as_bytes().to_vec(),
    };
    Some(SigningKey(bytes.into()))
}

/// Tells whether a header is not for a manifest to set.
fn is_ours(name: &str) -> bool {
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ]
    .iter()
    .any(|ours| name.eq_ignore_ascii_case(ours))
}

struct Service(Arc<Settings>);

impl Opener for Service {
    /// Says nothing yet to the service: HTTP has no login. Connections come with the first request, and stay.
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        let settings = &self.0;
        let mut tls = TlsConfig::builder();
        if settings.url.scheme_str() == Some("https") {
            let trusted = trust::authorities(settings.ca_file.as_ref())?;
            let trusted: Vec<_> = trusted
                .iter()
                .map(|der| Certificate::from_der(der).to_owned())
                .collect();
            tls = tls.root_certs(RootCerts::new_with_certs(&trusted));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("emaj/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(1)
            .tls_config(tls.build())
            .build()
            .new_agent();
        Ok(Box::new(Connection {
            agent,
            settings: self.0.clone(),
            lease: Arc::default(),
        }))
    }

    fn lanes(&self) -> usize {
        self.0.connections
    }

    fn batch(&self) -> usize {
        self.0.batch.max(50)
    }

    fn describe(&self) -> String {
        format!("POST to {}", self.0.shown)
    }
}

struct Connection {
    agent: ureq::Agent,
    settings: Arc<Settings>,
    lease: Arc<Lease>,
}

impl Sink for Connection {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let mut round = Round::new(batch);
        let mut in_a_row = InARow::default();
        for request in requests(batch, self.settings.batch) {
            if self.send(batch, request, &mut round, &mut in_a_row).is_err() {
                break;
            }
        }
        round.finish()
    }

    fn under(&mut self, lease: Arc<Lease>) {
        self.lease = lease;
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        let answer = self.head()?;
        let reach = format!("reach {}", self.settings.shown);
        let reached = match answer.status().as_u16() {
            status @ (401 | 403 | 407) => {
                let problem = format!("it answered {status} to a HEAD request: look at `headers`");
                Finding::allowed(reach, Some(problem))
            }
            status => {
                let say = |redirect| format!("it answered {status} to a HEAD request: {redirect}");
                Finding::of(reach, self.redirect(&answer).map(say))
            }
        };
        let signed = match self.settings.key {
            Some(_) => "requests are signed",
            None => "requests are not signed",
        };
        Ok(vec![reached, Finding::fine(signed)])
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        let line = |delivery: &Delivery| {
            let message = message(delivery)?;
            check_headers(&message.headers, is_ours)?;
            let fixed = self
                .settings
                .headers
                .iter()
                .map(|(name, _)| (name.clone(), "***".to_owned()));
            let mut ours = vec![("webhook-id".to_owned(), delivery.id.clone())];
            ours.push(("content-type".to_owned(), content_type(message).to_owned()));
            ours.extend(fixed);
            Ok(preview(&self.settings.shown, message, with_own(ours, message)))
        };
        batch.iter().map(line).collect()
    }
}

/// Returns which deliveries share a request: neighbours that are CloudEvents and have the same headers, `most` of them.
fn requests(batch: &[Delivery], most: usize) -> Vec<Range<usize>> {
    let mut requests: Vec<Range<usize>> = Vec::new();
    let together = |first: usize, next: usize| match (message(&batch[first]), message(&batch[next])) {
        (Ok(first), Ok(next)) => first.is_cloud_event && next.is_cloud_event && first.headers == next.headers,
        _ => false,
    };
    for at in 0..batch.len() {
        match requests.last_mut() {
            Some(last) if last.len() < most && together(last.start, at) => last.end = at + 1,
            _ => requests.push(at..at + 1),
        }
    }
    requests
}

/// The place is down: what follows is not tried.
struct Stopped;

impl Connection {
    /// Sends the deliveries of `range` as one request, and as smaller ones when that is refused.
    fn send<'a>(
        &self,
        batch: &'a [Delivery],
        range: Range<usize>,
        round: &mut Round<'a>,
        in_a_row: &mut InARow,
    ) -> Result<(), Stopped> {
        let mut sent: Vec<(usize, &Delivery, &Message)> = Vec::with_capacity(range.len());
        for at in range {
            let delivery = &batch[at];
            match message(delivery).and_then(|message| check_headers(&message.headers, is_ours).map(|()| message)) {
                Ok(message) if round.waits(at, &message.key) => {}
                Ok(message) => sent.push((at, delivery, message)),
                Err(fault) => {
                    let key = message(delivery).map_or("", |message| &message.key);
                    round.note(at, key, Outcome::Failed(fault));
                }
            }
        }
        let Some(&(first, _, of_first)) = sent.first() else {
            return Ok(());
        };
        if in_a_row.unanswered >= UNWELL {
            let fault = Fault::down(format!("{} answers no event", self.settings.shown));
            round.note(first, &of_first.key, Outcome::Failed(fault));
            return Err(Stopped);
        }
        if in_a_row.refused >= UNWELL {
            for (at, _, message) in sent {
                let fault = Fault::later("the service refuses one event after the other");
                round.note(at, &message.key, Outcome::Failed(fault));
            }
            return Ok(());
        }
        match self.post_or_find_out(&sent) {
            Ok(()) => {
                *in_a_row = InARow::default();
                for (at, _, message) in sent {
                    round.note(at, &message.key, Outcome::Written);
                }
                Ok(())
            }
            Err(fault) if fault.verdict == Verdict::Down => {
                round.note(first, &of_first.key, Outcome::Failed(fault));
                Err(Stopped)
            }
            Err(fault) if sent.len() == 1 => {
                // What is never taken says something about the event; the service is well.
                *in_a_row = match fault.verdict {
                    Verdict::Silent => InARow {
                        refused: in_a_row.refused,
                        unanswered: in_a_row.unanswered + 1,
                    },
                    Verdict::Later => InARow {
                        refused: in_a_row.refused + 1,
                        unanswered: 0,
                    },
                    _ => InARow::default(),
                };
                round.note(first, &of_first.key, Outcome::Failed(fault));
                Ok(())
            }
            Err(_) => {
                let middle = sent[sent.len() / 2].0;
                let end = sent[sent.len() - 1].0 + 1;
                self.send(batch, first..middle, round, in_a_row)?;
                self.send(batch, middle..end, round, in_a_row)
            }
        }
    }

    /// Posts one event, or several as a batch. When there is no answer, looks whether the service is there at all. If it is, one event is tried once
    /// more, alone: a connection may have been closed for being old. What else there is is tried behind one that gets no answer each time: that tells
    /// whose fault it is.
    fn post_or_find_out(&self, sent: &[(usize, &Delivery, &Message)]) -> Result<(), Fault> {
        let tries = if sent.len() == 1 { 2 } else { 1 };
        let mut why = String::new();
        for _ in 0..tries {
            match self.post(sent)? {
                Ok(()) => return Ok(()),
                Err(error) => why = self.why_unsent(&error),
            }
            let status = self.head()?.status().as_u16();
            // (Another one says how it takes a `HEAD`.)
            if let 429 | 502 | 503 | 504 | 507 | 511 = status {
                return Err(Fault::down(format!("{} answered {status}", self.settings.shown)));
            }
        }
        let size: usize = sent.iter().map(|(_, delivery, _)| delivery.action.size()).sum();
        Err(Fault::silent(format!(
            "{} can be reached, and gives no answer each time this is sent, {}: {why}",
            self.settings.shown,
            bytes(size)
        )))
    }

    /// Posts a request; within an answer there may be none.
    ///
    /// # Errors
    /// What the answer says, or that the request cannot be made.
    fn post(&self, sent: &[(usize, &Delivery, &Message)]) -> Result<Result<(), ureq::Error>, Fault> {
        let (_, delivery, first) = sent[0];
        let (id, kind, body) = match sent {
            [_] if self.settings.batch == 1 || !first.is_cloud_event => {
                (delivery.id.clone(), content_type(first), first.body.clone())
            }
            several => {
                let bodies: Vec<&str> = several.iter().map(|(_, _, message)| message.body.as_str()).collect();
                (batch_id(several), BATCH_TYPE, format!("[{}]", bodies.join(",")))
            }
        };
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        let mut request = self
            .request(Method::POST, &first.headers)
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp);
        if !says(&first.headers, "content-type") {
            request = request.header("content-type", kind);
        }
        if let Some(key) = &self.settings.key {
            request = request.header("webhook-signature", signature(key, &id, timestamp, &body));
        }
        let request = request
            .body(body)
            .map_err(|_| Fault::never("its headers are no headers of HTTP"))?;
        self.lease.check()?;
        match self.agent.run(request) {
            Ok(answer) => self.judge(answer, sent.len()).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Asks whether the service is there, and returns what it answers.
    ///
    /// # Errors
    /// It is not.
    fn head(&self) -> Result<Response<ureq::Body>, Fault> {
        let head = self.request(Method::HEAD, &[]).body(());
        let head = head.map_err(|error| self.unsent(&error.into()))?;
        self.agent.run(head).map_err(|error| self.unsent(&error))
    }

    /// Says where an answer sends us, if it does, and what to do.
    fn redirect(&self, answer: &Response<ureq::Body>) -> Option<String> {
        if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let place = location.and_then(|location| leads_to(&self.settings.url, location, &self.settings.secrets));
        let place = place.map_or_else(String::new, |place| format!(" to {place}"));
        Some(format!(
            "a redirect{place}; redirects are not followed (hint: correct the `url`)"
        ))
    }

    /// Begins a request with the headers of the sink and of a message; what the message says is stronger.
    fn request(&self, method: Method, of_message: &[(String, String)]) -> ureq::http::request::Builder {
        let mut request = Request::builder().method(method).uri(self.settings.url.clone());
        for (name, value) in &self.settings.headers {
            if !says(of_message, name) {
                let value = HeaderValue::from_bytes(value.expose_secret().as_bytes()).map(|mut value| {
                    value.set_sensitive(true);
                    value
                });
                if let Ok(value) = value {
                    request = request.header(name, value);
                }
            }
        }
        // (`HeaderValue` would take a `&str` of ASCII only; what goes over the wire is UTF-8.)
        for (name, value) in of_message {
            match HeaderValue::from_bytes(value.as_bytes()) {
                Ok(value) => request = request.header(name, value),
                // Builders carry their error along: the request as a whole then fails.
                Err(_) => request = request.header(name, "\n"),
            }
        }
        request
    }

    fn judge(&self, mut answer: Response<ureq::Body>, events: usize) -> Result<(), Fault> {
        let status = answer.status();
        // (Read to its end also when it is good: only then can the connection be used again.)
        let said = answer
            .body_mut()
            .with_config()
            .limit(64 * 1024)
            .read_to_vec()
            .unwrap_or_default();
        if status.is_success() {
            return Ok(());
        }
        let mut reason = format!("{} answered {status}", self.settings.shown);
        let said = match self.redirect(&answer) {
            // (The body says the same, with all that `Location` holds.)
            Some(redirect) => redirect,
            None => self.settings.secrets.hide(&String::from_utf8_lossy(&said)),
        };
        if !said.is_empty() {
            reason += &format!(": {said}");
        }
        if status.as_u16() == 415 && events > 1 {
            reason += " (hint: the service may not take batches; set `batch: 1`)";
        }
        let header = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok());
        Err(Fault {
            pause: header.and_then(retry_after),
            ..Fault::of(fault::http(status.as_u16()), reason)
        })
    }

    /// Says why there is no answer, in words of our own: those of the library may hold the URL.
    fn why_unsent(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => format!("no answer within {} s", self.settings.timeout.as_secs()),
            ureq::Error::HostNotFound => "the host's name is not known".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => "the URL cannot be used".to_owned(),
            ureq::Error::ConnectProxyFailed(_) => "the proxy refuses".to_owned(),
            other => {
                let said = self.settings.secrets.hide(&other.to_string());
                let is_tls = self.settings.url.scheme_str() == Some("https");
                match other {
                    ureq::Error::Protocol(_) if !is_tls => format!("{said} (hint: {NO_HTTP})"),
                    _ if is_tls => trust::explained(&said, self.settings.ca_file.as_ref(), NO_TLS),
                    _ => said,
                }
            }
        }
    }

    fn unsent(&self, error: &ureq::Error) -> Fault {
        let why = self.why_unsent(error);
        Fault::down(format!("{} cannot be reached: {why}", self.settings.shown))
    }
}

/// Returns the same for the same events in the same order.
fn batch_id(several: &[(usize, &Delivery, &Message)]) -> String {
    let mut hash = Sha256::new();
    for (_, delivery, _) in several {
        hash.update(delivery.id.as_bytes());
        hash.update(b"\n");
    }
    format!("batch-{}", hex(&hash.finalize()[..16]))
}

/// Signs after Standard Webhooks 1.0: `v1,` and base64 of HMAC-SHA256 over id, time and body.
fn signature(key: &SigningKey, id: &str, timestamp: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.0.expose_secret()).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// Reads `Retry-After`: seconds or a date (RFC 9110, 10.2.3); an hour at most.
fn retry_after(value: &str) -> Option<Duration> {
    let pause = match value.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
            Duration::try_from(until.duration_since(jiff::Timestamp::now())).unwrap_or_default()
        }
    };
    Some(pause.min(Duration::from_secs(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the Standard Webhooks specification.
        let key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(signing_key("whsec_no base64").is_none());
        assert_eq!(signing_key("plain text").unwrap().0.expose_secret(), b"plain text");
    }

    #[test]
    fn a_service_may_ask_for_time() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("999999"), Some(Duration::from_secs(3600)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
        let later = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90)))
            .unwrap();
        let pause = retry_after(&later).unwrap();
        assert!((80..=90).contains(&pause.as_secs()), "{later}: {pause:?}");
    }
}
