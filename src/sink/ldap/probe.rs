//! What can be known about a directory without writing to it, for `emaj sink test`.

use ldap3::exop::WhoAmI;

use super::super::Finding;
use super::super::fault::Fault;
use super::directory::{Found, Live, Query, Trouble};
use super::settings::{Login, Settings};
use crate::manifest::Scope;

/// Looks around.
///
/// # Errors
/// [`crate::sink::Verdict::Down`]: the connection was lost meanwhile.
pub(super) async fn probe(live: &Live, settings: &Settings) -> Result<Vec<Finding>, Fault> {
    let mut findings = vec![
        Finding::fine(format!("reach {}", settings.describe())),
        encryption(settings),
    ];
    findings.push(login(live, settings).await?);
    let names = ["namingContexts", "supportedControl", "vendorName", "vendorVersion"].map(str::to_owned);
    match read(live, "", &names).await? {
        Ok(Some(root)) => {
            for context in texts(&root, "namingcontexts") {
                findings.push(match read(live, &context, &["1.1".to_owned()]).await? {
                    Ok(Some(_)) => Finding::fine(format!("read `{context}`")),
                    Ok(None) => Finding::bad(
                        format!("read `{context}`"),
                        "there is no such entry, or it is hidden from this login",
                    ),
                    Err(reason) => Finding::bad(format!("read `{context}`"), reason),
                });
            }
            let pages = texts(&root, "supportedcontrol")
                .iter()
                .any(|control| control == "1.2.840.113556.1.4.319");
            findings.push(match pages {
                true => Finding::fine("list in pages"),
                false => Finding::bad(
                    "list in pages",
                    "the directory does not say that it can; long listings may be cut",
                ),
            });
        }
        Ok(None) => findings.push(Finding::bad(
            "look around",
            "the directory hides what it holds (its root entry)",
        )),
        Err(reason) => findings.push(Finding::bad("look around", reason)),
    }
    findings.push(Finding::fine(
        "write: not tried, a directory says so only when it is done",
    ));
    Ok(findings)
}

fn encryption(settings: &Settings) -> Finding {
    let is_here = matches!(settings.url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match (&settings.tls, settings.url.scheme()) {
        (Some(_), _) if settings.starttls => Finding::fine("encryption: StartTLS, the server's certificate is valid"),
        (Some(_), _) => Finding::fine("encryption: TLS, the server's certificate is valid"),
        (None, "ldapi") => Finding::fine("encryption: none, a socket of this machine"),
        (None, _) if is_here => Finding::fine("encryption: none, on this machine"),
        (None, _) => Finding::bad(
            "encryption",
            "none: the password and all values can be read on the way; set `starttls: true` or use `ldaps://`",
        ),
    }
}

async fn login(live: &Live, settings: &Settings) -> Result<Finding, Fault> {
    let asked = match &settings.login {
        Login::Anonymous => "nobody (anonymous)",
        Login::Simple { dn, .. } => dn,
        Login::External => "SASL EXTERNAL",
    };
    let mut ldap = live.ldap.clone();
    ldap.with_timeout(live.timeout);
    let answer = ldap
        .extended(WhoAmI)
        .await
        .map_err(|error| live.lost(error).into_fault("who am I"))?;
    // Not every server knows the question.
    Ok(Finding::fine(match (answer.1.rc, answer.0.val) {
        (0, Some(value)) if !value.is_empty() => {
            let who = String::from_utf8_lossy(&value).into_owned();
            format!("log in as {asked}: the directory says {who}")
        }
        (0, _) => format!("log in as {asked}: the directory says anonymous"),
        _ => format!("log in as {asked}"),
    }))
}

/// Reads an entry; a refusal is a finding, not an end.
async fn read(live: &Live, dn: &str, attributes: &[String]) -> Result<Result<Option<Found>, String>, Fault> {
    let query = Query {
        base: dn,
        scope: Scope::Base,
        filter: "(objectClass=*)",
        attributes,
    };
    match live.search(&query, None).await {
        Ok(page) => Ok(Ok(page.found.into_iter().next())),
        Err(trouble @ Trouble::Refused { .. }) => Ok(Err(trouble.into_fault("refused").reason)),
        Err(Trouble::Fault(fault)) => Err(fault),
    }
}

fn texts(found: &Found, name: &str) -> Vec<String> {
    found
        .values(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}
