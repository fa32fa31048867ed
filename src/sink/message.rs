//! What the sinks that send messages have in common: content types, header rules, previews, and keys that wait.

use std::collections::HashSet;

use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::{Action, Delivery, Fault, Message, Outcome, Verdict};

/// Returns the message.
///
/// # Errors
/// [`super::Verdict::Never`] for any other action: a manifest that loads has none for such a sink.
pub(super) fn message(delivery: &Delivery) -> Result<&Message, Fault> {
    match &delivery.action {
        Action::Message(message) => Ok(message),
        _ => Err(Fault::never("this kind of sink takes messages only")),
    }
}

/// Returns the content type of the body; a body of the manifest's own is JSON when it reads as such.
pub(super) fn content_type(message: &Message) -> &'static str {
    if message.is_cloud_event {
        "application/cloudevents+json; charset=utf-8"
    } else if serde_json::from_str::<IgnoredAny>(&message.body).is_ok() {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}

/// Tells whether one of `headers` is called `name`, in whatever case.
pub(super) fn says(headers: &[(String, String)], name: &str) -> bool {
    headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
}

/// Returns the headers that go out: ours, save those that the message says itself, and the message's.
pub(super) fn with_own(ours: Vec<(String, String)>, message: &Message) -> Vec<(String, String)> {
    let mut headers = ours;
    headers.retain(|(name, _)| !says(&message.headers, name));
    headers.extend(message.headers.iter().cloned());
    headers
}

/// Checks headers of a protocol of lines: a value that breaks its line would become a header, or more, of its own.
///
/// # Errors
/// [`super::Verdict::Never`], naming the header and not its value.
pub(super) fn check_headers(headers: &[(String, String)], is_ours: fn(&str) -> bool) -> Result<(), Fault> {
    for (name, value) in headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Fault::never(format!(
                "`{}` is no name of a header",
                name.escape_debug()
            )));
        }
        if is_ours(name) {
            return Err(Fault::never(format!(
                "the header `{name}` is set by emaj, or by the protocol"
            )));
        }
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(Fault::never(format!(
                "the value of the header `{name}` holds a line break or another control character"
            )));
        }
    }
    Ok(())
}

/// RFC 9110, 5.6.2: what names of headers are made of. NATS takes the same.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns one JSON line of what would be sent.
pub(super) fn preview(address: &str, message: &Message, headers: impl IntoIterator<Item = (String, String)>) -> String {
    let headers: Map<String, Value> = headers
        .into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect();
    let body = serde_json::from_str(&message.body).unwrap_or_else(|_| Value::from(message.body.as_str()));
    json!({ "address": address, "key": message.key, "headers": headers, "body": body }).to_string()
}

/// The outcomes of a batch while they come in, and the keys of which one failed.
///
/// What is behind a failed message and has its key is not sent in this batch, so that it does not overtake it.
pub(super) struct Round<'a> {
    outcomes: Vec<Option<Outcome>>,
    held: HashSet<&'a str>,
}

impl<'a> Round<'a> {
    pub(super) fn new(batch: &'a [Delivery]) -> Self {
        Round {
            outcomes: vec![None; batch.len()],
            held: HashSet::new(),
        }
    }

    /// Notes what became of the delivery at `at`.
    pub(super) fn note(&mut self, at: usize, key: &'a str, outcome: Outcome) {
        if matches!(outcome, Outcome::Failed(_)) {
            self.held.insert(key);
        }
        self.outcomes[at] = Some(outcome);
    }

    /// Tells whether `key` waits, and notes it for the delivery at `at` when it does.
    pub(super) fn waits(&mut self, at: usize, key: &str) -> bool {
        let waits = self.held.contains(key);
        if waits {
            let fault = Fault::later("it waits for an earlier message of its key");
            self.outcomes[at] = Some(Outcome::Failed(fault));
        }
        waits
    }

    /// Notes `fault` for the first delivery without an outcome.
    #[cfg(feature = "nats")]
    pub(super) fn rest(&mut self, fault: Fault) {
        if let Some(open) = self.outcomes.iter_mut().find(|outcome| outcome.is_none()) {
            *open = Some(Outcome::Failed(fault));
        }
    }

    /// Returns the outcomes up to the last that is known.
    pub(super) fn finish(mut self) -> Vec<Outcome> {
        let known = self.outcomes.iter().rposition(Option::is_some);
        self.outcomes.truncate(known.map_or(0, |last| last + 1));
        // Why it is down stands first, wherever it came up.
        let known = self.outcomes.iter().flatten().find_map(|outcome| match outcome {
            Outcome::Failed(fault) if fault.verdict == Verdict::Down => Some(fault.clone()),
            _ => None,
        });
        let untried = Outcome::Failed(known.unwrap_or_else(|| Fault::down("it was not tried")));
        let outcomes = self.outcomes.into_iter();
        outcomes
            .map(|outcome| outcome.unwrap_or_else(|| untried.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_cannot_bring_another_one_along() {
        let check = |name: &str, value: &str| {
            check_headers(&[(name.to_owned(), value.to_owned())], |name| name == "host").map_err(|fault| fault.reason)
        };
        assert_eq!(check("x-name", "O'Brien, é, \u{1f980}\t;"), Ok(()));
        for hostile in ["a\r\nx-admin: 1", "a\nb", "a\rb", "a\0b", "\u{7f}"] {
            let reason = check("x-name", hostile).unwrap_err();
            assert!(
                reason.contains("`x-name`") && !reason.contains('a'.to_string().repeat(2).as_str()),
                "{reason}"
            );
        }
        for name in ["", "x y", "x:y", "x\r\n", "é"] {
            assert!(check(name, "v").is_err(), "{name:?}");
        }
        assert!(check("host", "v").is_err());
    }

    fn plain(body: &str, headers: &[(&str, &str)]) -> Message {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Message {
            address: String::new(),
            key: String::new(),
            event_type: String::new(),
            body: body.to_owned(),
            is_cloud_event: false,
            headers: headers.iter().map(owned).collect(),
        }
    }

    #[test]
    fn what_a_message_says_itself_is_not_said_twice() {
        let ours = || vec![("Content-Type".to_owned(), "text/plain".to_owned())];
        let sent = |headers| with_own(ours(), &plain("", headers));
        assert_eq!(sent(&[("x-name", "a")]).len(), 2);
        let own = [("content-type".to_owned(), "text/csv".to_owned())];
        assert_eq!(sent(&[("content-type", "text/csv")]), own);
    }

    #[test]
    fn a_body_says_what_it_is() {
        let body = |body: &str| content_type(&plain(body, &[]));
        assert_eq!(body("{\"a\": [1]}"), "application/json");
        assert_eq!(body("hello"), "text/plain; charset=utf-8");
        assert_eq!(body(""), "text/plain; charset=utf-8");
    }
}
