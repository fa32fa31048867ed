//! The story as data: chapters, and in each what is typed and what must hold.
//!
//! `shop` is the first part, a mistake and the way back; `people` the second, a directory that follows tables. To change how something
//! is done, change its one line there.

mod people;
mod shop;

use super::stage::{Act, Follow};

pub(super) use self::people::{ENTRIES, TABLES_SAY};

/// A part of the story.
pub(super) struct Chapter {
    pub title: &'static str,
    pub told: &'static str,
    pub acts: &'static [Act],
}

/// The two parts; only the second needs a directory.
pub(super) const ROLLBACK: &[Chapter] = shop::CHAPTERS;
pub(super) const DIRECTORY: &[Chapter] = people::CHAPTERS;
