//! Checks the signature of a TLS handshake by the key in the server's certificate.
//!
//! rustls does this itself, but refuses certificates of X.509 version 1, which `openssl x509 -req` makes and libpq takes.
//! Only used where the certificate is not verified (`sslmode` up to `require`): there the signature still matters,
//! because SCRAM binds itself to the certificate.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

/// Checks `signature` over `message` by the key of `certificate`, of whatever version.
pub(super) fn check(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let certificate = Certificate::from_der(certificate).map_err(unreadable)?;
    let key = certificate.tbs_certificate.subject_public_key_info;
    // webpki names an algorithm by the inside of its DER sequence.
    let algorithm = key.algorithm.to_der().map_err(unreadable)?;
    let candidates = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signature.scheme);
    let (_, candidates) = candidates.ok_or(PeerIncompatible::NoSignatureSchemesInCommon)?;
    candidates
        .iter()
        .filter(|candidate| algorithm.ends_with(candidate.public_key_alg_id().as_ref()))
        .find_map(|candidate| {
            candidate
                .verify_signature(key.subject_public_key.raw_bytes(), message, signature.signature())
                .ok()
        })
        .map(|()| HandshakeSignatureValid::assertion())
        .ok_or(Error::InvalidCertificate(CertificateError::BadSignature))
}
