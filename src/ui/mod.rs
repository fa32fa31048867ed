//! The only module that prints: data to stdout, talk to stderr.

use crate::errors::Error;

/// Prints an error once, its causes and its hints, to stderr.
pub fn print_error(error: &Error) {
    anstream::eprintln!("error: {error}");
    for hint in error.hints() {
        anstream::eprintln!("hint: {hint}");
    }
}
