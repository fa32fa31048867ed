//! Text that may not be UTF-8: names of roles and databases are one cluster's, and each database writes them in its own encoding.

use std::error::Error;

use postgres::types::{FromSql, Type};

/// Text of the server in which what is not UTF-8 is replaced. As a name in a statement it then means nobody, and is refused.
#[derive(Debug)]
pub struct Lossy(String);

impl Lossy {
    /// Returns the text of the column at `at`.
    pub fn get(row: &postgres::Row, at: usize) -> String {
        row.get::<_, Lossy>(at).0
    }

    /// Returns the text of the column at `at`, if there is any.
    pub fn get_opt(row: &postgres::Row, at: usize) -> Option<String> {
        row.get::<_, Option<Lossy>>(at).map(|text| text.0)
    }

    /// Returns the texts of the array at `at`.
    pub fn all(row: &postgres::Row, at: usize) -> Vec<String> {
        row.get::<_, Vec<Lossy>>(at).into_iter().map(|text| text.0).collect()
    }
}

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Lossy(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql>::accepts(ty)
    }
}
