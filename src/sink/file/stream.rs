//! Lines on stdout, or on a device: nothing can be found again there, so there is no position.

use std::io::{self, Write};

use super::line;
use crate::sink::fault::of_file;
use crate::sink::{Delivery, Fault, Finding, Opener, Outcome, Sink};

/// Opens stdout.
#[derive(Debug)]
pub(super) struct Stdout;

impl Opener for Stdout {
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Stream::new("stdout".to_owned(), Box::new(io::stdout()))))
    }

    fn describe(&self) -> String {
        "stdout".to_owned()
    }
}

/// A place that takes lines and keeps nothing.
pub(super) struct Stream {
    name: String,
    out: Box<dyn Write + Send>,
}

impl Stream {
    pub(super) fn new(name: String, out: Box<dyn Write + Send>) -> Self {
        Stream { name, out }
    }
}

impl Sink for Stream {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let (mut lines, mut outcomes) = (Vec::new(), Vec::with_capacity(batch.len()));
        for delivery in batch {
            outcomes.push(match line::add(&mut lines, delivery) {
                Ok(()) => Outcome::Written,
                Err(fault) => Outcome::Failed(fault),
            });
        }
        match self.out.write_all(&lines).and_then(|()| self.out.flush()) {
            Ok(()) => outcomes,
            Err(error) => vec![Outcome::Failed(of_file(format_args!("write to {}", self.name), &error))],
        }
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        Ok(vec![Finding::fine(format!("write to {}", self.name))])
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        preview(batch)
    }
}

/// Returns the lines themselves.
pub(super) fn preview(batch: &[Delivery]) -> Result<Vec<String>, Fault> {
    let line = |delivery: &Delivery| {
        let mut out = Vec::new();
        line::add(&mut out, delivery)?;
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    };
    batch.iter().map(line).collect()
}
