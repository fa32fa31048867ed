//! One server to try: where it is, and the password that is meant for it.
//!
//! [`targets`] cuts the lists of `host`, `hostaddr` and `port` into targets, by the rules of libpq's `connectOptions2`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::environment::Environment;
use super::values::{self, BadValue};
use crate::words::count;

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The directory of a Unix socket.
    Socket(PathBuf),
    /// A host name, to be looked up; it may also be a numeric address.
    Host(String),
    /// An address; the name, if any, is only for certificates and passwords.
    Address { address: IpAddr, name: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) port: u16,
}

/// What is wrong with the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadTarget {
    Hosts { hosts: usize, addresses: usize },
    Ports { ports: usize, hosts: usize },
    Port(BadValue),
    Address(String),
    Abstract(String),
}

impl Target {
    /// Returns the name by which a password file knows the server.
    pub(super) fn passfile_name(&self, env_socket_dir: Option<&std::path::Path>) -> String {
        match &self.place {
            Place::Socket(dir) if Some(dir.as_path()) == env_socket_dir => "localhost".to_owned(),
            place => place.name(),
        }
    }
}

impl Place {
    /// Returns the host's name as it was given, else the address.
    pub(super) fn name(&self) -> String {
        match self {
            Place::Socket(dir) => dir.display().to_string(),
            Place::Host(name) | Place::Address { name: Some(name), .. } => name.clone(),
            Place::Address { address, name: None } => address.to_string(),
        }
    }

    /// Returns the address that was given beside the name or in its place.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Place::Address { address, .. } => Some(*address),
            Place::Socket(_) | Place::Host(_) => None,
        }
    }

    /// Returns the name as it was given; empty where only an address was.
    pub(super) fn given_name(&self) -> String {
        match self {
            Place::Address { name, .. } => name.clone().unwrap_or_default(),
            place => place.name(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.name() {
            name if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            name => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Cuts the three lists into targets. There is always at least one.
pub(super) fn targets(
    hosts: &str,
    addresses: &str,
    ports: &str,
    env: &Environment,
) -> Result<Vec<Target>, (&'static str, BadTarget)> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (host_list, address_list, port_list) = (list(hosts), list(addresses), list(ports));
    let count = if addresses.is_empty() {
        host_list.len()
    } else {
        address_list.len()
    };
    if !addresses.is_empty() && !hosts.is_empty() && host_list.len() != address_list.len() {
        return Err((
            "hostaddr",
            BadTarget::Hosts {
                hosts: host_list.len(),
                addresses: address_list.len(),
            },
        ));
    }
    if port_list.len() != 1 && port_list.len() != count {
        return Err((
            "port",
            BadTarget::Ports {
                ports: port_list.len(),
                hosts: count,
            },
        ));
    }
    let text = |list: &[String], at: usize| list.get(at).cloned().unwrap_or_default();
    (0..count)
        .map(|at| {
            let port = if port_list.len() == 1 {
                text(&port_list, 0)
            } else {
                text(&port_list, at)
            };
            let port = values::port(&port).map_err(|bad| ("port", BadTarget::Port(bad)))?;
            let name = Some(text(&host_list, at)).filter(|name| !name.is_empty());
            let place = match text(&address_list, at) {
                address if !address.is_empty() => {
                    let address = address.parse().map_err(|_| ("hostaddr", BadTarget::Address(address)))?;
                    Place::Address { address, name }
                }
                _ => place(name, env).map_err(|bad| ("host", bad))?,
            };
            Ok(Target { place, port })
        })
        .collect()
}

fn place(name: Option<String>, env: &Environment) -> Result<Place, BadTarget> {
    match (name, &env.socket_dir) {
        (Some(name), _) if name.starts_with('/') => Ok(Place::Socket(PathBuf::from(name))),
        (Some(name), _) if name.starts_with('@') => Err(BadTarget::Abstract(name)),
        (Some(name), _) => Ok(Place::Host(name)),
        (None, Some(dir)) => Ok(Place::Socket(dir.clone())),
        (None, None) => Ok(Place::Host("localhost".to_owned())),
    }
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadTarget::Hosts { hosts, addresses } => {
                write!(f, "{}, but `host` names {hosts}", count(*addresses, "address"))
            }
            BadTarget::Ports { ports, hosts } => {
                write!(
                    f,
                    "{ports} ports for {} (give one, or one for each)",
                    count(*hosts, "host")
                )
            }
            BadTarget::Port(bad) => write!(f, "{bad}"),
            BadTarget::Address(text) => write!(
                f,
                "`{text}`, expected a numeric address such as 192.0.2.1 or 2001:db8::1"
            ),
            BadTarget::Abstract(text) => write!(
                f,
                "`{text}`: abstract sockets are not supported, use a directory or a name"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hosts: &str, addresses: &str, ports: &str) -> String {
        let env = Environment {
            socket_dir: Some("/run/pg".into()),
            ..Environment::default()
        };
        match targets(hosts, addresses, ports, &env) {
            Ok(list) => list.iter().map(Target::to_string).collect::<Vec<_>>().join(" "),
            Err((keyword, bad)) => format!("{keyword}: {bad}"),
        }
    }

    #[test]
    fn lists_are_cut() {
        for ((hosts, addresses, ports), expected) in [
            (("", "", ""), "/run/pg:5432"),
            (("h", "", "7"), "h:7"),
            (("a,b", "", "7"), "a:7 b:7"),
            (("a,b", "", "7,8"), "a:7 b:8"),
            (("a,b", "", ",8"), "a:5432 b:8"),
            (
                ("a,,/s", "", ","),
                "port: 2 ports for 3 hosts (give one, or one for each)",
            ),
            (("a,,/s", "", ""), "a:5432 /run/pg:5432 /s:5432"),
            (("", "127.0.0.1,::1", "7"), "127.0.0.1:7 [::1]:7"),
            (("a,", "127.0.0.1,::1", "7"), "a:7 [::1]:7"),
            (("a", "127.0.0.1,::1", "7"), "hostaddr: 2 addresses, but `host` names 1"),
            (("a,b", ",127.0.0.1", "7"), "a:7 b:7"),
            (("a", "", "0"), "port: `0`, expected a port from 1 to 65535"),
            (
                ("a", "db.example.org", ""),
                "hostaddr: `db.example.org`, expected a numeric address such as 192.0.2.1 or 2001:db8::1",
            ),
            (
                ("@x", "", ""),
                "host: `@x`: abstract sockets are not supported, use a directory or a name",
            ),
        ] {
            assert_eq!(shown(hosts, addresses, ports), expected, "{hosts} {addresses} {ports}");
        }
    }

    #[test]
    fn without_a_socket_directory_the_default_is_localhost() {
        let list = targets("", "", "", &Environment::default()).unwrap();
        assert_eq!(list[0].place, Place::Host("localhost".into()));
    }
}
