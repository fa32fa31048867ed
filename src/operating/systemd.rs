//! What systemd is told: that the worker is ready, how it is, that it lives, that it ends. Without systemd nobody listens, and nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::deliver::{SinkCondition, Status, Stop};

/// How often the worker looks whether there is something to tell.
const LOOK: Duration = Duration::from_millis(500);

/// Begins to tell systemd, in a thread of its own, until `stop` is set.
///
/// It is ready once each sink is up, or was tried: a sink that is down is no reason to start the worker anew. The watchdog is fed as long as
/// every courier gives signs of life; one that hangs lets the service manager act.
pub fn tell_systemd(status: &Status, stop: &Stop) {
    let watchdog = sd_notify::watchdog_enabled();
    let (status, stop) = (status.clone(), stop.clone());
    std::thread::spawn(move || {
        let mut is_ready = false;
        let mut said = String::new();
        let look = watchdog.map_or(LOOK, |limit| LOOK.min(limit / 4));
        while !stop.wait(look) {
            let all = status.all();
            let tried = !all.is_empty() && all.values().all(|sink| sink.condition != SinkCondition::Starting);
            if tried && !is_ready {
                is_ready = true;
                tell(&[NotifyState::Ready]);
            }
            let now = summary(&status);
            if now != said {
                tell(&[NotifyState::Status(&now)]);
                said = now;
            }
            if watchdog.is_some_and(|limit| status.is_alive(limit)) {
                tell(&[NotifyState::Watchdog]);
            }
        }
        tell(&[NotifyState::Stopping, NotifyState::Status("ending")]);
    });
}

/// Tells that the manifest is read anew, for `systemctl reload`.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
        tell(&[NotifyState::Ready]);
    }
}

fn tell(what: &[NotifyState<'_>]) {
    // Nobody there to listen is how it is outside of systemd.
    let _ = sd_notify::notify(what);
}

/// One line: how many sinks are up, and which are not.
fn summary(status: &Status) -> String {
    let all = status.all();
    let up = all.values().filter(|sink| sink.condition.is_ready()).count();
    let mut line = format!("{up} of {} sinks up", all.len());
    for (name, sink) in &all {
        let word = match &sink.condition {
            SinkCondition::Up | SinkCondition::Standby => None,
            SinkCondition::Starting => Some("is starting"),
            SinkCondition::Down(_) => Some("is down"),
            SinkCondition::Paused(_) => Some("is paused"),
            SinkCondition::Stopped(_) => Some("is stopped"),
            SinkCondition::Broken(_) => Some("is broken"),
        };
        if let Some(word) = word {
            line += &format!("; {} {word}", name.replace(char::is_control, "?"));
        }
        if sink.set_aside > 0 {
            line += &format!(
                "; {} set aside of {}",
                sink.set_aside,
                name.replace(char::is_control, "?")
            );
        }
    }
    line
}
