//! Names of database objects.
