//! A directory (LDAP version 3): entries, values and attributes are kept as the bindings say.
//!
//! The road of a batch: [`waves`] says what may be under way together, [`work`] carries a delivery out ([`entry`], [`value`]), [`diff`]
//! compares, [`directory`] speaks the protocol. `preview` goes the same road with [`dry`] at its end, which prints LDIF. Everything
//! is done by comparing, so doing it twice changes nothing. What the answers of a server cause stands in `sink/fault.rs`.
//!
//! `ldap3` is used through its asynchronous side: many operations may be under way on one connection. The runtime belongs
//! to the connection and is entered and left by each call; nothing else runs in it.

mod change;
mod connect;
mod diff;
mod directory;
mod dn;
mod dry;
mod entry;
mod escape;
mod ldif;
mod listing;
mod probe;
mod schema;
mod settings;
mod taken;
mod value;
mod waves;
mod work;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Runtime};

use self::directory::{Live, Query};
use self::dn::Dn;
use self::schema::Schema;
use self::settings::Settings;
use self::taken::Taken;
use self::waves::{depth, waves};
use self::work::Work;
use super::fault::{Fault, Verdict};
use super::{Action, Delivery, Existing, Finding, Opener, Outcome, Sink};
use crate::errors::Result;
use crate::manifest::{self, LdapSink, Scope};
use crate::pg::Environment;

pub use self::escape::{dn_value, filter_value};

/// Looks up the settings of an LDAP sink.
///
/// # Errors
/// All references that lead nowhere; a `url` or a file of certificates that cannot be used.
pub(super) fn opener(sink: &LdapSink, environment: &Environment) -> Result<Box<dyn Opener>> {
    Ok(Box::new(LdapOpener {
        settings: Arc::new(Settings::resolve(sink, environment)?),
        schema: Arc::default(),
        taken: Arc::default(),
    }))
}

/// Opens connections; what the server says about its attributes is read by the first that needs it.
#[derive(Debug)]
struct LdapOpener {
    settings: Arc<Settings>,
    schema: Arc<OnceLock<Schema>>,
    taken: Arc<Taken>,
}

impl Opener for LdapOpener {
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::down(format!("no runtime for a connection: {error}")))?;
        let ldap = runtime.block_on(connect::open(&self.settings))?;
        Ok(Box::new(Connection {
            live: Live {
                ldap,
                timeout: self.settings.timeout,
            },
            runtime,
            settings: self.settings.clone(),
            schema: self.schema.clone(),
            taken: self.taken.clone(),
        }))
    }

    fn lanes(&self) -> usize {
        self.settings.connections
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}

/// One connection, logged in.
struct Connection {
    live: Live,
    runtime: Runtime,
    settings: Arc<Settings>,
    schema: Arc<OnceLock<Schema>>,
    taken: Arc<Taken>,
}

impl Sink for Connection {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let schema = match self.schema() {
            Ok(schema) => schema,
            Err(fault) => return batch.first().map(|_| Outcome::Failed(fault)).into_iter().collect(),
        };
        let schema = schema.get_or_init(Schema::default);
        let work = Work::new(&self.live, schema, &self.taken);
        self.runtime
            .block_on(deliver(&work, depth(self.settings.connections), batch))
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        self.runtime.block_on(probe::probe(&self.live, &self.settings))
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        let schema = self.schema()?;
        let schema = schema.get_or_init(Schema::default);
        self.runtime.block_on(dry::preview(&self.live, schema, batch))
    }

    fn identity(&self, delivery: &Delivery) -> Option<String> {
        match &delivery.action {
            Action::Entry(change) => Some(Dn::parse(&change.new.as_ref()?.dn).ok()?.normal()),
            _ => None,
        }
    }

    fn existing(&mut self, binding: &manifest::Binding, visit: &mut dyn FnMut(Existing)) -> Result<(), Fault> {
        let form = listing::Form::of(binding)?;
        let mut cookie = Vec::new();
        loop {
            // `visit` is called outside the runtime: it may well talk to a database, which has its own.
            let page = self.wait(form.page(&self.live, self.settings.page_size, cookie))?;
            page.found
                .iter()
                .filter_map(|found| form.existing(&found.dn))
                .for_each(&mut *visit);
            if page.cookie.is_empty() {
                return Ok(());
            }
            cookie = page.cookie;
        }
    }
}

impl Connection {
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Reads what the server says about its attributes, unless a connection has.
    fn schema(&self) -> Result<Arc<OnceLock<Schema>>, Fault> {
        if self.schema.get().is_none() {
            let schema = self.wait(read_schema(&self.live))?;
            _ = self.schema.set(schema);
        }
        Ok(self.schema.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A word of farewell, where it can be said.
        if tokio::runtime::Handle::try_current().is_err() && !self.live.ldap.is_closed() {
            let mut ldap = self.live.ldap.clone();
            ldap.with_timeout(std::time::Duration::from_millis(200));
            _ = self.runtime.block_on(ldap.unbind());
        }
    }
}

/// Carries out a batch, wave by wave.
async fn deliver(work: &Work<'_, Live>, depth: usize, batch: &[Delivery]) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(batch.len());
    for wave in waves(batch) {
        let (start, is_alone) = (wave.start, wave.len() == 1);
        let mut results: Vec<Option<Result<bool, Fault>>> = vec![None; wave.len()];
        let started = wave.map(async |place| (place, work.carry_out(batch, place).await));
        let mut under_way = futures_util::stream::iter(started).buffer_unordered(depth);
        while let Some((place, result)) = under_way.next().await {
            let is_down = matches!(&result, Err(fault) if fault.verdict == Verdict::Down);
            results[place - start] = Some(result);
            if is_down {
                break;
            }
        }
        drop(under_way);
        for (at, result) in results.into_iter().enumerate() {
            // The server may compare entries with each other (unique values): what failed beside others has its turn alone.
            let result = match result {
                Some(Err(fault)) if !is_alone && fault.verdict != Verdict::Down => {
                    work.carry_out(batch, start + at).await
                }
                Some(result) => result,
                // The connection was lost while this one waited.
                None => Err(Fault::down("the connection to the directory was lost")),
            };
            let is_down = matches!(&result, Err(fault) if fault.verdict == Verdict::Down);
            outcomes.push(match result {
                Ok(true) => Outcome::Written,
                Ok(false) => Outcome::Unchanged,
                Err(fault) => Outcome::Failed(fault),
            });
            if is_down {
                return outcomes;
            }
        }
    }
    outcomes
}

/// Asks for the definitions of attributes (RFC 4512, 4.4). A server that hides them is no reason not to deliver.
async fn read_schema(live: &Live) -> Result<Schema, Fault> {
    let look = async |base: &str, filter: &str, attribute: &str| {
        let query = Query {
            base,
            scope: Scope::Base,
            filter,
            attributes: &[attribute.to_owned()],
        };
        let values = match live.search(&query, None).await {
            Ok(page) => page.found.into_iter().next(),
            Err(trouble) if trouble.code().is_some() => None,
            Err(trouble) => return Err(trouble.into_fault("reading the schema")),
        };
        let values = values.map(|found| found.values(&attribute.to_ascii_lowercase()).to_vec());
        let text = |value: Vec<u8>| String::from_utf8(value).ok();
        Ok(values
            .unwrap_or_default()
            .into_iter()
            .filter_map(text)
            .collect::<Vec<String>>())
    };
    let place = look("", "(objectClass=*)", "subschemaSubentry").await?;
    let Some(place) = place.first() else {
        return Ok(Schema::default());
    };
    let definitions = look(place, "(objectClass=subschema)", "attributeTypes").await?;
    Ok(Schema::read(definitions.iter().map(String::as_str)))
}
