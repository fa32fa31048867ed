//! What a URL says: where it leads, for people, and which parts of it are never to be seen. Called by the webhook.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use ureq::http::Uri;
use url::Url;

use crate::sink::settings::Secrets;

/// Returns scheme, host and port: what follows is often a secret.
pub(super) fn shown(url: &Uri) -> String {
    format!(
        "{}://{}{}",
        url.scheme_str().unwrap_or("https"),
        url.host().unwrap_or_default(),
        url.port().map(|port| format!(":{port}")).unwrap_or_default()
    )
}

/// Returns where the `Location` of a redirect leads, seen from `url`: scheme, host and path, without a login, a query, and what is secret of `url`.
/// `None`: to no web address.
pub(super) fn leads_to(url: &Uri, location: &str, secrets: &Secrets) -> Option<String> {
    let there = Url::parse(&url.to_string()).ok()?.join(location).ok()?;
    if !matches!(there.scheme(), "http" | "https") {
        return None;
    }
    let port = there.port().map(|port| format!(":{port}")).unwrap_or_default();
    let server = format!("{}://{}{port}", there.scheme(), there.host_str()?);
    Some(match there.path().strip_prefix(url.path()) {
        Some("") => format!("`{server}` with the same path"),
        Some("/") => format!("`{server}` with the same path and `/` behind it"),
        // (Decoded: a secret may be written in more ways than one.)
        _ => format!(
            "`{server}{}`",
            secrets.hide(&percent_decode_str(there.path()).decode_utf8_lossy())
        ),
    })
}

/// Returns what a URL may hold that is secret: the login and what is behind the host, whole and in pieces, as it is and decoded, for a service may quote
/// any of these.
pub(super) fn secrets_of(url: &Uri) -> Secrets {
    let mut secrets = Secrets::default();
    if let Some(login) = login(url) {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        secrets.add(&basic(login));
        secrets.add(&SecretString::from(encoded(login)));
        add_quoted(&mut secrets, [login, password]);
        add_quoted(&mut secrets, Some(user).filter(|user| may_be_secret(user)));
    }
    let whole = url.path_and_query().map_or("", |whole| whole.as_str());
    let query = url.query().unwrap_or_default();
    let whole = [whole, url.path()].into_iter().filter(|path| path.len() > 1);
    add_quoted(&mut secrets, whole.chain([query]));
    let values = query
        .split(['&', ';'])
        .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let pieces = url.path().split('/').chain(values);
    add_quoted(&mut secrets, pieces.filter(|piece| may_be_secret(piece)));
    secrets
}

/// Returns the login of a URL as it stands there: `USER:PASSWORD`.
pub(super) fn login(url: &Uri) -> Option<&str> {
    Some(url.authority()?.as_str().rsplit_once('@')?.0)
}

/// Returns the header that logs in.
pub(super) fn basic(login: &str) -> SecretString {
    SecretString::from(format!("Basic {}", encoded(login)))
}

/// Returns a login as HTTP sends it. In a URL it is percent-encoded, or a password could hold no `@`.
fn encoded(login: &str) -> String {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let decoded = |part| percent_decode_str(part).collect::<Vec<u8>>();
    BASE64_STANDARD.encode([decoded(user), vec![b':'], decoded(password)].concat())
}

/// Tells whether a piece of a URL is long enough to be a secret. (A service may say a word such as `hook` or `v1` of its own.)
fn may_be_secret(piece: &str) -> bool {
    piece.len() >= 8 || piece.len() >= 6 && piece.bytes().any(|byte| byte.is_ascii_digit())
}

/// Adds parts of a URL as they are and decoded, the latter also as in a query, where `+` is a blank.
fn add_quoted<'u>(secrets: &mut Secrets, parts: impl IntoIterator<Item = &'u str>) {
    for part in parts {
        for text in [part, &part.replace('+', " ")] {
            let decoded = percent_decode_str(text).decode_utf8_lossy();
            secrets.add(&SecretString::from(decoded.as_ref()));
        }
        secrets.add(&SecretString::from(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_redirect_leads_is_told_without_what_is_secret() {
        let url: Uri = "http://us:canary-a@here:8080/hook/canary-b?k=canary-c".parse().unwrap();
        let secrets = secrets_of(&url);
        for (location, said) in [
            (
                "https://u:canary-d@there/new/place?k=canary-e#canary-f",
                Some("`https://there/new/place`"),
            ),
            ("/elsewhere?canary", Some("`http://here:8080/elsewhere`")),
            (
                "https://here/hook/canary-b?k=canary-c",
                Some("`https://here` with the same path"),
            ),
            (
                "canary-b/",
                Some("`http://here:8080` with the same path and `/` behind it"),
            ),
            ("//there:81/v2/canary-b", Some("`http://there:81/v2/***`")),
            ("/login/canary%2Db", Some("`http://here:8080/login/***`")),
            ("mailto:canary@there", None),
            ("https://", None),
        ] {
            assert_eq!(leads_to(&url, location, &secrets).as_deref(), said, "{location}");
        }
    }
}
