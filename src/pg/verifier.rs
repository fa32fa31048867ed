//! Believes or refuses the server's certificate, as libpq with OpenSSL would.
//!
//! rustls calls the [`Verifier`] in each handshake. The chain is webpki's work; the name is compared by libpq's rules, in
//! `peer_name`; and where nothing need be believed, the signature is still checked. `tls` decides which of it is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::{peer_name, signature};

/// What a chain of certificates is verified by.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) web_pki: Arc<WebPkiServerVerifier>,
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// Verifies the chain if there is one to verify by, and the name if it is wanted.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) chain: Option<Chain>,
    pub(super) name: Option<String>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Becomes true when the server shows its certificate.
    pub(super) used: Arc<AtomicBool>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.used.store(true, Ordering::Relaxed);
        if let Some(chain) = &self.chain {
            match chain
                .web_pki
                .verify_server_cert(certificate, intermediates, server_name, ocsp, now)
            {
                Ok(_) => {}
                // The name is looked at after the chain, and not by libpq's rules: see below.
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => {}
                Err(error) if is_a_root_itself(&error) && chain.roots.iter().any(|root| root == certificate) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(name) = &self.name {
            let misfit = |misfit| CertificateError::Other(rustls::OtherError(Arc::new(misfit)));
            peer_name::check(certificate, name).map_err(misfit)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
            .or_else(|error| self.check_signature(error, message, certificate, signature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
            .or_else(|error| self.check_signature(error, message, certificate, signature))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    /// Gives a certificate that rustls cannot read a second chance, where it need not be believed anyway.
    fn check_signature(
        &self,
        error: rustls::Error,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        found: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match (&error, &self.chain) {
            (rustls::Error::InvalidCertificate(_), None) => {
                signature::check(message, certificate, found, &self.algorithms).map_err(|_| error)
            }
            _ => Err(error),
        }
    }
}

/// Says in words why a handshake failed, where rustls only shows its data.
pub(super) fn explain(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(problem) = error else {
        return error.to_string();
    };
    let because = match problem {
        CertificateError::Other(other) => match other.0.downcast_ref::<peer_name::Misfit>() {
            Some(misfit) => return misfit.to_string(),
            None if is_a_root_itself(error) => "it is an authority's own, and none of the root certificates",
            None => return format!("the server's certificate is not accepted: {}", other.0),
        },
        CertificateError::UnknownIssuer => "no root certificate stands behind it",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnknownRevocationStatus => "no revocation list of its authority is there",
        _ => return error.to_string(),
    };
    format!("the server's certificate is not accepted: {because}")
}

/// A self-signed certificate that calls itself an authority, as `openssl req -x509` makes it, is refused by webpki in the
/// server's place, after its dates were checked. When it is one of the roots, it is believed all the same, as by OpenSSL.
fn is_a_root_itself(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.to_string().contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}
