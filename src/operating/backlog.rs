//! How far behind the sinks are, asked of the database by one session and not often, however often the metrics are read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::deliver::Stop;
use crate::journal::{self, SinkLag};
use crate::pg::{Prompt, Session, Settings};

/// How often the database is asked; more seldom when the answer takes its time.
const PACE: Duration = Duration::from_secs(10);
const REST: u32 = 20;

/// The last answer; none while the database does not give one.
#[derive(Debug, Clone, Default)]
pub struct Backlog(Arc<Mutex<Option<Vec<SinkLag>>>>);

impl Backlog {
    /// Begins to ask, in a thread of its own, until `stop` is set.
    pub fn begin(settings: &Settings, schema: &str, stop: &Stop) -> Backlog {
        let backlog = Backlog::default();
        let settings = settings.with_application_name("emaj metrics");
        let (answer, schema, stop) = (backlog.clone(), schema.to_owned(), stop.clone());
        std::thread::spawn(move || {
            let mut session: Option<Session> = None;
            loop {
                let began = Instant::now();
                answer.set(ask(&mut session, &settings, &schema));
                if stop.wait(PACE.max(began.elapsed() * REST)) {
                    return;
                }
            }
        });
        backlog
    }

    fn set(&self, answer: Option<Vec<SinkLag>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Returns the last answer.
    pub fn last(&self) -> Option<Vec<SinkLag>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks once; after an error the session is made anew the next time.
fn ask(session: &mut Option<Session>, settings: &Settings, schema: &str) -> Option<Vec<SinkLag>> {
    if session.is_none() {
        *session = settings.connect(Prompt::Never).ok();
    }
    match journal::lag(&mut **session.as_mut()?, schema) {
        Ok(lag) => Some(lag),
        Err(error) => {
            tracing::debug!("how far behind the sinks are is not known: {error}");
            *session = None;
            None
        }
    }
}
