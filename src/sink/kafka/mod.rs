//! Messages to topics of Kafka.
//!
//! A key decides the partition ([`partition`]), and within a partition the order is that of the batch. All replicas in sync have a record
//! before it counts as written (`acks=all`). The client library has no idempotent producer: a record may be there twice, with the same
//! `ce_id` header. Topics are never made here. What an error code causes is in [`super::fault`].

mod partition;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use rskafka::BackoffConfig;
use rskafka::client::error::{Error as KafkaError, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::Record;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

use super::message::{Round, content_type, message, preview};
use super::settings::{References, Secrets};
use super::{Delivery, Fault, Finding, Lease, Message, Opener, Outcome, Sink, Verdict, fault, trust};
use crate::errors::Result;
use crate::manifest::KafkaSink;
use crate::pg::Environment;

/// One request holds so many bytes at most; brokers take 1 MiB unless told otherwise.
const REQUEST: usize = 900 * 1024;

/// After this time a topic is looked at again: it may have got more partitions. (The Java client does the same.)
const METADATA_AGE: Duration = Duration::from_secs(300);

/// Smaller requests are not worth compressing.
const COMPRESSED: usize = 1024;

/// What to look at when the other side speaks no TLS, or nothing but TLS.
const NO_TLS: &str = "does this port speak TLS? Without it, leave `tls` away";
const TLS: &str = "is this a port for TLS, or one that wants a login? `tls: true` then, `user` and `password`";

/// How to reach a cluster.
struct Settings {
    brokers: Vec<String>,
    login: Option<(String, SecretString)>,
    tls: bool,
    ca_file: Option<PathBuf>,
    client_id: String,
    timeout: Duration,
    secrets: Secrets,
}

/// Looks up the settings.
///
/// # Errors
/// References that lead nowhere.
pub(super) fn opener(sink: &KafkaSink, environment: &Environment) -> Result<Box<dyn Opener>> {
    let mut references = References::new(environment);
    let mut secrets = Secrets::default();
    let brokers = sink.brokers.iter().map(|broker| references.text(broker)).collect();
    let login = sink.user.as_ref().zip(sink.password.as_ref()).map(|(user, password)| {
        let password = references.secret(password);
        secrets.add(&password);
        (references.text(user), password)
    });
    let settings = Settings {
        brokers,
        login,
        tls: sink.tls,
        ca_file: sink.ca_file.as_ref().map(|file| references.file(file)),
        client_id: sink
            .client_id
            .as_ref()
            .map_or("emaj".to_owned(), |id| references.text(id)),
        timeout: Duration::from_secs(sink.timeout.into()),
        secrets,
    };
    references.finish()?;
    Ok(Box::new(Cluster(Arc::new(settings))))
}

struct Cluster(Arc<Settings>);

impl Opener for Cluster {
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::down(format!("no runtime for Kafka: {error}")))?;
        let client = runtime.block_on(self.0.connect())?;
        Ok(Box::new(Connection {
            topics: HashMap::new(),
            compression: Compression::Zstd,
            client,
            settings: self.0.clone(),
            lease: Arc::default(),
            runtime,
        }))
    }

    fn batch(&self) -> usize {
        2000
    }

    fn describe(&self) -> String {
        format!("Kafka at {}", self.0.brokers.join(", "))
    }
}

impl Settings {
    async fn connect(&self) -> Result<Client, Fault> {
        let mut builder = ClientBuilder::new(self.brokers.clone())
            .client_id(self.client_id.as_str())
            .backoff_config(BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(1),
                base: 3.0,
                // Before the time is up, so that there is a reason to tell.
                deadline: Some((self.timeout / 2).min(Duration::from_secs(5))),
            });
        if self.tls {
            builder = builder.tls_config(Arc::new(trust::client(self.ca_file.as_ref())?));
        }
        if let Some((user, password)) = &self.login {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            builder = builder.sasl_config(SaslConfig::Plain(credentials));
        }
        // (A port for TLS may wait for more of what it takes for a greeting.)
        let look_at = if self.tls { NO_TLS } else { TLS };
        self.in_time_or(builder.build(), &format!(" (hint: {look_at})")).await
    }

    /// Waits for an answer of the cluster, not longer than the manifest says.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, KafkaError>>) -> Result<T, Fault> {
        self.in_time_or(work, "").await
    }

    /// Like [`Settings::in_time`]; `hint` stands behind the words where there is no answer.
    async fn in_time_or<T>(&self, work: impl Future<Output = Result<T, KafkaError>>, hint: &str) -> Result<T, Fault> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(answer) => answer.map_err(|error| self.judge(&error)),
            Err(_) => Err(Fault::down(format!(
                "the Kafka cluster gave no answer within {} s{hint}",
                self.timeout.as_secs()
            ))),
        }
    }

    fn judge(&self, error: &KafkaError) -> Fault {
        match error {
            // (Not the library's words: they hold the request.)
            KafkaError::ServerError {
                protocol_error,
                error_message,
                ..
            } => {
                let said = error_message
                    .as_deref()
                    .map(|said| format!(": {}", self.secrets.hide(said)));
                let reason = format!("Kafka refuses it: {protocol_error:?}{}", said.unwrap_or_default());
                Fault::of(fault::kafka(*protocol_error), reason)
            }
            other => {
                let said = self.secrets.hide(&other.to_string());
                match said.contains("SaslAuthenticationFailed") {
                    true => Fault::refused_login(format!(
                        "the Kafka cluster cannot be reached: {said} (hint: look at `user` and `password`)"
                    )),
                    false => {
                        let said = match self.tls {
                            true => trust::explained(&said, self.ca_file.as_ref(), NO_TLS),
                            // (The first thing that is asked of a broker.)
                            false if said.contains("cannot sync versions") => format!("{said} (hint: {TLS})"),
                            false => said,
                        };
                        Fault::down(format!("the Kafka cluster cannot be reached: {said}"))
                    }
                }
            }
        }
    }
}

/// What is known of a topic.
struct Topic {
    partitions: Vec<i32>,
    clients: HashMap<i32, Arc<PartitionClient>>,
    seen: Instant,
}

struct Connection {
    topics: HashMap<String, Topic>,
    compression: Compression,
    client: Client,
    settings: Arc<Settings>,
    lease: Arc<Lease>,
    runtime: Runtime,
}

/// Messages of one partition, with their places in the batch.
type Lot<'a> = Vec<(usize, &'a Delivery, &'a Message)>;

impl Sink for Connection {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let mut round = Round::new(batch);
        let lots = self.sort(batch, &mut round);
        for ((topic, partition), lot) in lots {
            if self.send(topic, partition, lot, &mut round).is_err() {
                break;
            }
        }
        round.finish()
    }

    fn under(&mut self, lease: Arc<Lease>) {
        self.lease = lease;
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        let topics = self
            .runtime
            .block_on(self.settings.in_time(self.client.list_topics()))?;
        let login = match &self.settings.login {
            Some((user, _)) => format!("log in as {user}"),
            None => "connect, without a login".to_owned(),
        };
        let count = topics.len();
        Ok(vec![
            Finding::fine(login),
            Finding::of(
                format!("list topics: {count} found"),
                (count == 0).then(|| "there is none, or the login may see none: make those of the manifest".to_owned()),
            ),
        ])
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        let line = |delivery: &Delivery| {
            let message = message(delivery)?;
            check_topic(&message.address)?;
            Ok(preview(&message.address, message, headers(delivery, message)))
        };
        batch.iter().map(line).collect()
    }
}

impl Connection {
    /// Puts the messages of a batch into lots by topic and partition.
    fn sort<'a>(&mut self, batch: &'a [Delivery], round: &mut Round<'a>) -> BTreeMap<(&'a str, i32), Lot<'a>> {
        let mut lots: BTreeMap<(&str, i32), Lot<'a>> = BTreeMap::new();
        for (at, delivery) in batch.iter().enumerate() {
            let message = match message(delivery).and_then(|message| check_topic(&message.address).map(|()| message)) {
                Ok(message) => message,
                Err(fault) => {
                    let key = message(delivery).map_or("", |message| &message.key);
                    round.note(at, key, Outcome::Failed(fault));
                    continue;
                }
            };
            match self.partitions(&message.address) {
                Ok(partitions) => {
                    let place = partition::partition(message.key.as_bytes(), partitions.len());
                    let lot = lots.entry((&message.address, partitions[place])).or_default();
                    lot.push((at, delivery, message));
                }
                // What is before it in the batch is sent all the same.
                Err(fault) => {
                    round.note(at, &message.key, Outcome::Failed(fault));
                    break;
                }
            }
        }
        lots
    }

    /// Returns the partitions of a topic.
    fn partitions(&mut self, name: &str) -> Result<&[i32], Fault> {
        let is_known = self
            .topics
            .get(name)
            .is_some_and(|topic| topic.seen.elapsed() < METADATA_AGE);
        if !is_known {
            let topics = self
                .runtime
                .block_on(self.settings.in_time(self.client.list_topics()))?;
            let found = topics.into_iter().find(|topic| topic.name == name);
            let Some(found) = found.filter(|topic| !topic.partitions.is_empty()) else {
                return Err(Fault::down(
                    "there is no topic of the message's name, or the login may not see it (hint: make it; emaj makes none)",
                ));
            };
            let topic = Topic {
                partitions: found.partitions.into_iter().collect(),
                clients: self.topics.remove(name).map(|topic| topic.clients).unwrap_or_default(),
                seen: Instant::now(),
            };
            self.topics.insert(name.to_owned(), topic);
        }
        Ok(&self.topics[name].partitions)
    }
}

/// The place is down: what follows is not tried.
struct Stopped;

impl Connection {
    /// Sends the messages of one partition, in requests that a broker takes.
    fn send<'a>(&mut self, topic: &str, partition: i32, lot: Lot<'a>, round: &mut Round<'a>) -> Result<(), Stopped> {
        let mut request: Lot<'a> = Vec::new();
        let mut bytes = 0;
        for item in lot {
            let size = size(item.1, item.2);
            if !request.is_empty() && bytes + size > REQUEST {
                self.produce(topic, partition, std::mem::take(&mut request), round)?;
                bytes = 0;
            }
            bytes += size;
            request.push(item);
        }
        self.produce(topic, partition, request, round)
    }

    /// Sends one request; one that is refused is halved until the record is found that it was refused for.
    fn produce<'a>(
        &mut self,
        topic: &str,
        partition: i32,
        mut request: Lot<'a>,
        round: &mut Round<'a>,
    ) -> Result<(), Stopped> {
        request.retain(|(at, _, message)| !round.waits(*at, &message.key));
        let Some(&(first, _, of_first)) = request.first() else {
            return Ok(());
        };
        match self.try_produce(topic, partition, &request) {
            Ok(()) => {
                for (at, _, message) in request {
                    round.note(at, &message.key, Outcome::Written);
                }
                Ok(())
            }
            Err(fault) if fault.verdict == Verdict::Down => {
                round.note(first, &of_first.key, Outcome::Failed(fault));
                Err(Stopped)
            }
            Err(fault) if request.len() == 1 => {
                round.note(first, &of_first.key, Outcome::Failed(fault));
                Ok(())
            }
            Err(_) => {
                let rest = request.split_off(request.len() / 2);
                self.produce(topic, partition, request, round)?;
                self.produce(topic, partition, rest, round)
            }
        }
    }

    fn try_produce(&mut self, topic: &str, partition: i32, request: &Lot<'_>) -> Result<(), Fault> {
        let bytes: usize = request
            .iter()
            .map(|(_, delivery, message)| size(delivery, message))
            .sum();
        let compression = if bytes < COMPRESSED {
            Compression::NoCompression
        } else {
            self.compression
        };
        let records = request
            .iter()
            .map(|(_, delivery, message)| record(delivery, message))
            .collect();
        let sent = self.runtime.block_on(async {
            let known = self
                .topics
                .get(topic)
                .and_then(|topic| topic.clients.get(&partition))
                .cloned();
            let client = match known {
                Some(client) => client,
                None => {
                    let opened = self
                        .client
                        .partition_client(topic, partition, UnknownTopicHandling::Error);
                    Arc::new(self.settings.in_time(opened).await?)
                }
            };
            self.lease.check()?;
            let produced = tokio::time::timeout(self.settings.timeout, client.produce(records, compression)).await;
            Ok::<_, Fault>((client, produced))
        });
        let (client, produced) = sent?;
        match produced {
            Ok(Ok(_)) => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.clients.insert(partition, client);
                }
                Ok(())
            }
            Ok(Err(KafkaError::ServerError {
                protocol_error: ProtocolError::UnsupportedCompressionType,
                ..
            })) if compression != Compression::NoCompression => {
                self.compression = Compression::NoCompression;
                self.try_produce(topic, partition, request)
            }
            Ok(Err(error)) => Err(self.settings.judge(&error)),
            Err(_) => Err(Fault::down(format!(
                "the Kafka cluster gave no answer within {} s",
                self.settings.timeout.as_secs()
            ))),
        }
    }
}

fn record(delivery: &Delivery, message: &Message) -> Record {
    Record {
        key: Some(message.key.clone().into_bytes()),
        value: Some(message.body.clone().into_bytes()),
        headers: headers(delivery, message)
            .into_iter()
            .map(|(name, value)| (name, value.into_bytes()))
            .collect(),
        // (Not the time of the change, which is in the body: a topic forgets by this one.)
        timestamp: Utc::now(),
    }
}

/// Returns the headers of a record: any text fits. The id cannot be replaced, the content type can.
fn headers(delivery: &Delivery, message: &Message) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::from([("content-type".to_owned(), content_type(message).to_owned())]);
    headers.extend(message.headers.iter().cloned());
    headers.insert("ce_id".to_owned(), delivery.id.clone());
    headers
}

/// How many bytes a record takes, not less.
fn size(delivery: &Delivery, message: &Message) -> usize {
    let headers: usize = message
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 10)
        .sum();
    message.key.len() + message.body.len() + delivery.id.len() + headers + 100
}

fn check_topic(topic: &str) -> Result<(), Fault> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=249).contains(&topic.len()) && topic.bytes().all(is_legal) && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(Fault::never(
        "its topic is no name of one: Kafka takes up to 249 letters, digits, `.`, `_` and `-`",
    ))
}
