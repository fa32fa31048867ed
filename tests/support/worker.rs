//! `emaj run` beside a test: started, stopped as an administrator would, or killed.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::Emaj;

/// A worker that runs; dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    log: PathBuf,
}

impl Emaj {
    /// Starts it and leaves it running; what it says goes to a file.
    pub fn start(self) -> Worker {
        let log = tempfile::Builder::new()
            .prefix("emaj-run-")
            .suffix(".log")
            .tempfile()
            .expect("a file for the log")
            .into_temp_path()
            .keep()
            .expect("a file for the log");
        let file = File::create(&log).expect("a file for the log");
        let mut command = self.into_command();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("emaj runs");
        Worker { child, log }
    }
}

impl Worker {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it without a warning.
    pub fn kill(mut self) {
        self.child.kill().expect("emaj can be killed");
        self.child.wait().expect("emaj can be waited for");
    }

    /// Asks it to end, and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("emaj can be asked to end");
        let end = Instant::now() + Duration::from_secs(120);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("emaj can be waited for") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the worker does not end:\n{}", self.log());
    }

    /// Its exit code, once it has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("emaj can be looked at");
        status.map(|status| status.code().expect("no signal ended it"))
    }

    /// Has it read its manifest anew.
    pub fn hang_up(&self) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("emaj can be looked at").is_none()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Waits until `done` returns something; a test that waits longer than `seconds` fails and says what it waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, seconds: u64, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < end, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `is_so`, for a minute.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, 60, || is_so().then_some(()));
}
