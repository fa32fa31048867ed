//! Whom a TLS connection of a sink trusts: the authorities of `ca_file`, or those of the system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Fault;

/// Returns the certificates of the authorities.
///
/// # Errors
/// [`super::Verdict::Down`]: there is none, or the file cannot be read.
pub(super) fn authorities(ca_file: Option<&PathBuf>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found = match ca_file {
        Some(file) => of_file(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if found.is_empty() {
        return Err(Fault::down(match ca_file {
            Some(file) => format!("`{}` (`ca_file`) holds no certificate", file.display()),
            None => {
                "the system has no root certificates; install them (`ca-certificates`) or give `ca_file`".to_owned()
            }
        }));
    }
    Ok(found)
}

fn of_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Fault::down(format!(
            "`{}` (`ca_file`) cannot be read as PEM: {error}",
            file.display()
        ))
    };
    CertificateDer::pem_file_iter(file)
        .map_err(|error| unreadable(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))
}

/// Returns the settings of a client that shows no certificate of its own.
///
/// # Errors
/// As [`authorities`].
#[cfg(any(feature = "nats", feature = "kafka"))]
pub(super) fn client(ca_file: Option<&PathBuf>) -> Result<rustls::ClientConfig, Fault> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(authorities(ca_file)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::down(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(store)
        .with_no_client_auth())
}
