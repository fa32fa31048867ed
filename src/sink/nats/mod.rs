//! Messages to JetStream, the part of NATS that keeps them.
//!
//! A batch is published whole, then its acknowledgements are awaited in order. Each message carries `Nats-Msg-Id`: within the
//! stream's duplicate window a second one is recognised and dropped, but for one that is wanted again. One connection publishes in order; it never reconnects by itself,
//! because what was on its way would be missing in the middle. What a refusal causes is in [`super::fault`].

mod server;
mod subject;

use std::error::Error as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue, NATS_MESSAGE_ID};
use async_nats::jetstream::context::{Context, PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout_at};

pub(super) use self::server::opener;
use self::server::{Lost, Settings};
use self::subject::{Held, check_subject};
use super::message::{Round, check_headers, content_type, message, preview, says, with_own};
use super::{Delivery, Fault, Finding, Lease, Message, Outcome, Sink, Verdict, fault};

/// The stream is asked about again, after this time, when it does not hold a subject.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

const LOST: &str = "the connection to the NATS server is lost";

struct Connection {
    /// The stream of the manifest.
    held: Option<Held>,
    /// Both are taken out when the connection ends.
    context: Option<Context>,
    runtime: Option<Runtime>,
    lost: Arc<Lost>,
    settings: Arc<Settings>,
    lease: Arc<Lease>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let (Some(context), Some(runtime)) = (self.context.take(), self.runtime.take()) {
            drop(context);
            runtime.shutdown_background();
        }
    }
}

impl Connection {
    fn context(&self) -> &Context {
        self.context.as_ref().expect("there until the end")
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("there until the end").block_on(work)
    }

    /// Asks for the stream of the manifest.
    fn look(&self) -> Result<Option<stream::Info>, Fault> {
        let Some(name) = &self.settings.stream else {
            return Ok(None);
        };
        match self.run(self.context().get_stream(name)) {
            Ok(found) if found.cached_info().config.subjects.is_empty() => Err(Fault::down(format!(
                "the stream `{name}` cannot be used: it has no subjects of its own (a mirror?)"
            ))),
            Ok(found) => Ok(Some(found.cached_info().clone())),
            Err(error) => {
                let said = self.settings.secrets.hide(&error.to_string());
                Err(Fault::down(format!(
                    "the stream `{name}` cannot be used: {said} (hint: make it with `nats stream add`, and let the login ask for \
                     `$JS.API.STREAM.INFO.{name}`)"
                )))
            }
        }
    }

    /// Asks whether JetStream is there. Returns what is wrong, or nothing.
    async fn jetstream(&self) -> Option<String> {
        // (Not `query_account`, which cannot read the answers of older servers.)
        let said = match self.context().client().request("$JS.API.INFO", "".into()).await {
            Ok(answer) => {
                let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
                answer.get("error")?.get("description")?.as_str()?.to_owned()
            }
            Err(error) => error.to_string(),
        };
        let said = self.settings.secrets.hide(&said);
        Some(format!(
            "{said} (hint: `jetstream {{}}` in the server's configuration, and for the account)"
        ))
    }

    /// Says what is wrong with a message before it is on its way: afterwards, others of its key would overtake it.
    fn check(&self, message: &Message) -> Result<(), Fault> {
        check_subject(&message.address)?;
        check_headers(&message.headers, is_ours)?;
        let Some(held) = &self.held else { return Ok(()) };
        if !held.holds(&message.address) {
            // (An administrator may add the subject: it then goes on by itself.)
            return Err(Fault::later(format!(
                "the stream `{}` does not hold the message's subject; it holds {}",
                held.name,
                held.subjects.join(", ")
            )));
        }
        let headers: usize = message
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        match held.largest {
            Some(most) if headers + message.body.len() > most => Err(Fault::never(format!(
                "it is larger than the {most} bytes that the stream `{}` takes",
                held.name
            ))),
            _ => Ok(()),
        }
    }

    /// Publishes what can be published, then collects the acknowledgements.
    async fn publish<'a>(&self, batch: &'a [Delivery], round: &mut Round<'a>) {
        let mut sent: Vec<(usize, &Message, PublishAckFuture)> = Vec::with_capacity(batch.len());
        for (at, delivery) in batch.iter().enumerate() {
            let message = match message(delivery) {
                Ok(message) => message,
                Err(fault) => {
                    round.note(at, "", Outcome::Failed(fault));
                    continue;
                }
            };
            if round.waits(at, &message.key) {
                continue;
            }
            let checked = self.check(message).and_then(|()| self.lease.check());
            let tried = match checked.and_then(|()| outgoing(delivery, message)) {
                Ok(outgoing) => {
                    let publish = self.context().send_publish(message.address.clone(), outgoing);
                    publish.await.map_err(|error| self.judge(&error))
                }
                Err(fault) => Err(fault),
            };
            match tried {
                Ok(promised) => sent.push((at, message, promised)),
                Err(fault) => {
                    let is_down = fault.verdict == Verdict::Down;
                    round.note(at, &message.key, Outcome::Failed(fault));
                    if is_down {
                        break;
                    }
                }
            }
        }
        // Behind one that was not acknowledged the others have as long as that one had, all together: what is acknowledged is not sent again.
        let mut end: Option<Instant> = None;
        for (at, message, promised) in sent {
            let acknowledged = match end {
                None => promised.await,
                Some(end) => timeout_at(end, promised.into_future())
                    .await
                    .unwrap_or_else(|_| Err(PublishErrorKind::TimedOut.into())),
            };
            let outcome = match acknowledged {
                Ok(ack) if ack.duplicate => Outcome::Unchanged,
                Ok(_) => Outcome::Written,
                Err(error) => Outcome::Failed(self.judge(&error)),
            };
            if matches!(&outcome, Outcome::Failed(fault) if fault.verdict == Verdict::Down) {
                end.get_or_insert_with(|| Instant::now() + self.settings.timeout);
            }
            round.note(at, &message.key, outcome);
        }
    }

    /// Says that the place is down, with what the server said outside of an acknowledgement.
    fn down(&self, reason: &str) -> Fault {
        let said = self.lost.said.lock().unwrap_or_else(PoisonError::into_inner).take();
        let said = said.map(|said| format!("; the server says: {}", self.settings.secrets.hide(&said)));
        Fault::down(format!("{reason}{}", said.unwrap_or_default()))
    }

    fn judge(&self, error: &PublishError) -> Fault {
        let source = error.source();
        match error.kind() {
            PublishErrorKind::StreamNotFound => Fault::down(
                "no stream holds the message's subject (hint: add it to a stream, or name the stream as `stream` in the manifest)",
            ),
            PublishErrorKind::TimedOut => {
                let seconds = self.settings.timeout.as_secs();
                self.down(&format!("no acknowledgement within {seconds} s"))
            }
            PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => self.down(LOST),
            PublishErrorKind::MaxPayloadExceeded => Fault::never("it is larger than the server takes (`max_payload`)"),
            PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => {
                Fault::later("the stream expects another message before this one")
            }
            PublishErrorKind::Other => match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                Some(refused) => {
                    let said = refused.to_string();
                    let verdict = fault::jetstream(refused.error_code().0, &said);
                    let said = self.settings.secrets.hide(&said);
                    Fault::of(verdict, format!("JetStream refuses it: {said}"))
                }
                None => Fault::down("the NATS server gave no acknowledgement that can be read"),
            },
        }
    }
}

impl Sink for Connection {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let mut round = Round::new(batch);
        let is_strange = |held: &Held| {
            let mut messages = batch.iter().filter_map(|delivery| message(delivery).ok());
            held.asked.elapsed() > LOOK_AGAIN && messages.any(|message| !held.holds(&message.address))
        };
        if self.held.as_ref().is_some_and(is_strange) {
            match self.look() {
                Ok(info) => self.held = info.map(|info| Held::new(&info.config)),
                Err(fault) => {
                    round.rest(fault);
                    return round.finish();
                }
            }
        }
        let is_lost = self.run(async {
            tokio::select! {
                biased;
                () = self.publish(batch, &mut round) => false,
                () = self.lost.wait() => true,
            }
        });
        if is_lost {
            round.rest(self.down(LOST));
        }
        round.finish()
    }

    fn under(&mut self, lease: Arc<Lease>) {
        self.lease = lease;
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        let mut findings = vec![
            Finding::fine("log in"),
            Finding::of("JetStream", self.run(self.jetstream())),
        ];
        if let Some(info) = self.look()? {
            let (config, window) = (info.config, |seconds: u64| format!("{seconds} s"));
            let what = format!(
                "stream `{}`: holds {}; duplicates are recognised for {}",
                config.name,
                config.subjects.join(", "),
                window(config.duplicate_window.as_secs())
            );
            let problem = match (config.sealed, config.no_ack) {
                (true, _) => Some("it is sealed".to_owned()),
                (_, true) => Some("it acknowledges nothing (`no_ack`)".to_owned()),
                _ => None,
            };
            findings.push(Finding::of(what, problem));
        }
        Ok(findings)
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        let line = |delivery: &Delivery| {
            let message = message(delivery)?;
            self.check(message)?;
            let ours = vec![
                ("Nats-Msg-Id".to_owned(), message_id(delivery)),
                ("Content-Type".to_owned(), content_type(message).to_owned()),
            ];
            Ok(preview(&message.address, message, with_own(ours, message)))
        };
        batch.iter().map(line).collect()
    }
}

/// What the stream knows a message by. One that is delivered again on request is another one to it: to be dropped as a duplicate is not what is wanted.
fn message_id(delivery: &Delivery) -> String {
    match delivery.replay {
        None => delivery.id.clone(),
        Some(number) => format!("{}-again-{number}", delivery.id),
    }
}

fn outgoing(delivery: &Delivery, message: &Message) -> Result<PublishMessage, Fault> {
    let unfit = || Fault::never("its headers are no headers of NATS");
    let value = |text: &str| text.parse::<HeaderValue>().map_err(|_| unfit());
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, value(&message_id(delivery))?);
    if !says(&message.headers, "content-type") {
        headers.insert("Content-Type", content_type(message));
    }
    for (name, text) in &message.headers {
        headers.append(name.parse::<HeaderName>().map_err(|_| unfit())?, value(text)?);
    }
    Ok(PublishMessage::build()
        .headers(headers)
        .payload(message.body.clone().into()))
}

/// Tells whether a header means something to JetStream that would break delivery.
fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "nats-msg-id" || name.starts_with("nats-expected-") || name == "nats-rollup"
}
