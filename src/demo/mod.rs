//! The demonstration: a story told on a throw-away cluster, by the commands that a person would type.
//!
//! `story` is the list of what is done, `stage` does it (it runs this very program, so what is shown is what runs),
//! `checksum` proves that rows and sequences are what they were. `commands/demo.rs` calls [`perform`]. Everything lives in the
//! cluster's directory, which its watchdog removes whatever ends this process.

mod checksum;
mod stage;
mod story;

use crate::errors::Result;

pub use self::stage::Outcome;

/// Performs the whole story; `tell` is called with each piece of text that is to be read.
///
/// # Errors
/// What kept the story from going on. A check that does not hold is no error here: see [`Outcome`].
pub fn perform(tell: &mut dyn FnMut(&str) -> Result<()>) -> Result<Outcome> {
    let mut stage = stage::Stage::set()?;
    for (at, chapter) in story::CHAPTERS.iter().enumerate() {
        tell(&format!("\n{}. {}\n\n{}\n", at + 1, chapter.title, chapter.told))?;
        for act in chapter.acts {
            stage.act(act, tell)?;
        }
    }
    Ok(stage.close())
}
