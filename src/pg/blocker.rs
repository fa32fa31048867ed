//! Who is in the way: watched while a statement waits, because once the lock time-out has struck it is too late to ask.
//!
//! Used by `locking` alone; the sentence ends up in a hint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lossy::Lossy;
use super::session::Session;

/// How often the server is asked.
const PACE: Duration = Duration::from_millis(50);

/// A watch over one session, on a connection of its own. Where that cannot be had, nothing is seen, and nothing fails.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<String>>>,
}

impl Watch {
    /// Begins to watch who blocks `session`, or one of the processes `others` that work with it.
    pub(super) fn begin(session: &mut Session, others: &[i32]) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let pid = session
            .query_one("select pg_backend_pid()", &[])
            .ok()
            .map(|row| row.get::<_, i32>(0));
        let thread = pid.zip(session.sibling().ok()).map(|(pid, mut sibling)| {
            // A look at many who wait for each other is given up rather than waited for.
            let _ = sibling.batch_execute("set statement_timeout = '500ms'");
            let stop = Arc::clone(&stop);
            let pids: Vec<i32> = others.iter().copied().chain([pid]).collect();
            std::thread::spawn(move || {
                let mut seen = None;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(PACE);
                    if let Ok(Some(blocker)) = look(&mut sibling, &pids) {
                        seen = Some(blocker);
                    }
                }
                seen
            })
        });
        Watch { stop, thread }
    }

    /// Ends the watch and returns who was seen last.
    pub(super) fn end(self) -> Option<String> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread?;
        thread.thread().unpark();
        thread.join().ok().flatten()
    }
}

/// Whoever waits for others leads on to whom he waits for; the one at the end of the chain is told, with the first one. Of a
/// session of another role one may see less. A prepared transaction has no process, and goes by its name: it holds what the one before it waits for.
const QUERY: &str = "
  with recursive involved(pid) as (
    select w from unnest($1::integer[]) as w
    union
    select b from involved cross join unnest(pg_blocking_pids(pid)) as b
  ),
  waits as materialized (
    select pid, b as blocker from involved cross join unnest(pg_blocking_pids(pid)) as b where b <> all ($1)
  ),
  last as (
    select pid, blocker, pid <> all ($1) as is_further from waits
     where not exists (select from waits as next where next.pid = waits.blocker)
     order by is_further, blocker
     limit 1
  )
  select case when l.is_further then format('process %s, which waits for ', (select min(blocker) from waits where pid = any ($1))) else '' end
         || case when l.blocker = 0
              then (select format('prepared transaction %L of role %s, made ready %s ago; %s',
                                  p.gid, p.owner, date_trunc('second', clock_timestamp() - p.prepared),
                                  case when p.database = current_database() and p.gid ~ '^emaj/.*/[0-9]+/[0-9]+/[0-9a-f]{32}$'
                                       then 'it is part of a rollback, which `emaj rollback --recover` brings to its end'
                                       else 'end it with `commit prepared` or `rollback prepared`' end)
                      from pg_prepared_xacts p
                      join pg_locks x on x.locktype = 'transactionid' and x.transactionid = p.transaction and x.pid is null
                      join pg_locks h on h.virtualtransaction = x.virtualtransaction and h.pid is null
                      join pg_locks w on w.pid = l.pid and not w.granted
                     where h.granted
                       and (h.relation, h.database) is not distinct from (w.relation, w.database)
                       and h.transactionid::text is not distinct from w.transactionid::text
                     limit 1)
              else format('process %s of role %s%s%s%s', l.blocker, coalesce(a.usename, '?'),
                          ' (' || nullif(a.application_name, '') || ')', ', ' || a.state,
                          coalesce(', its transaction ' || date_trunc('second', clock_timestamp() - a.xact_start) || ' old',
                                   ', there for ' || date_trunc('second', clock_timestamp() - a.backend_start))) end
    from last l
    left join pg_stat_activity a on a.pid = l.blocker";

fn look(sibling: &mut Session, pids: &[i32]) -> Result<Option<String>, postgres::Error> {
    let blocker = sibling.query_opt(QUERY, &[&pids])?;
    Ok(blocker.and_then(|row| Lossy::get_opt(&row, 0)))
}
