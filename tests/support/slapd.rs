//! A directory for a test: a real slapd as a child process, on 127.0.0.1 and a socket, in a directory of its own.
//!
//! It holds `dc=example,dc=org`, `ou=people` and `ou=groups` below, and the account `cn=emaj`, which may write everything but is no
//! superuser: limits apply to it. A shell holds the server and ends it when its input ends, so nothing is left after `kill -9`.
//! Missing programs fail the test, with the line that installs them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

pub const SUFFIX: &str = "dc=example,dc=org";
pub const ACCOUNT: &str = "cn=emaj,dc=example,dc=org";
pub const PASSWORD: &str = "canaryldapZk3x98f3a91";
const ADMIN: &str = "cn=admin,dc=example,dc=org";
const ADMIN_PASSWORD: &str = "admin";

/// An entry: attributes in lower case, values sorted.
pub type Entry = BTreeMap<String, Vec<Vec<u8>>>;

/// A directory server; dropping it stops it and removes its files.
#[derive(Debug)]
pub struct Slapd {
    folder: TempDir,
    port: u16,
    tls_port: u16,
    keeper: Option<Child>,
    loud: bool,
}

/// Starts a server that writes down what it is asked ([`Slapd::log`]).
pub fn slapd() -> Slapd {
    Slapd::with("", true)
}

impl Slapd {
    /// Starts a server; `settings` are lines for the database's part of its configuration. A `loud` one keeps a log.
    pub fn with(settings: &str, loud: bool) -> Slapd {
        let folder = tempfile::Builder::new()
            .prefix("emaj-slapd-")
            .tempdir()
            .expect("a directory for slapd");
        certificates(folder.path());
        let mut slapd = Slapd {
            port: 0,
            tls_port: 0,
            keeper: None,
            folder,
            loud,
        };
        fs::create_dir(slapd.path("data")).unwrap();
        fs::write(slapd.path("slapd.conf"), slapd.configuration(settings)).unwrap();
        fs::write(slapd.path("base.ldif"), base()).unwrap();
        let output = program("slapadd")
            .args(["-q", "-f"])
            .arg(slapd.path("slapd.conf"))
            .arg("-l")
            .arg(slapd.path("base.ldif"))
            .output()
            .unwrap_or_else(|error| missing("slapadd", &error));
        assert!(
            output.status.success(),
            "slapadd: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Somebody else may take a port between our looking and slapd's taking it.
        for _ in 0..20 {
            (slapd.port, slapd.tls_port) = (free_port(), free_port());
            if slapd.try_start() {
                return slapd;
            }
        }
        panic!("slapd does not start: {}", slapd.log());
    }

    fn configuration(&self, settings: &str) -> String {
        let at = self.folder.path().display();
        let schemas: String = ["core", "cosine", "inetorgperson", "nis"]
            .iter()
            .map(|name| format!("include /etc/ldap/schema/{name}.schema\n"))
            .collect();
        format!(
            "{schemas}modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload unique\nmoduleload ppolicy\nmoduleload refint\n\
             pidfile {at}/slapd.pid\nargsfile {at}/slapd.args\n\
             TLSCACertificateFile {at}/ca.crt\nTLSCertificateFile {at}/server.crt\nTLSCertificateKeyFile {at}/server.key\n\
             TLSVerifyClient try\n\
             authz-regexp \"gidNumber=.*,cn=peercred,cn=external,cn=auth\" \"{ACCOUNT}\"\n\
             authz-regexp \"cn=emaj client\" \"{ACCOUNT}\"\n\
             database mdb\nmaxsize 1073741824\nsuffix \"{SUFFIX}\"\nrootdn \"{ADMIN}\"\nrootpw {ADMIN_PASSWORD}\n\
             directory {at}/data\nindex objectClass,uid,cn,member,memberUid eq\nsizelimit 500\n\
             limits dn.exact=\"{ACCOUNT}\" size.soft=500 size.hard=500 size.prtotal=unlimited\n\
             access to attrs=userPassword by dn.exact=\"{ACCOUNT}\" write by anonymous auth by * none\n\
             access to * by dn.exact=\"{ACCOUNT}\" manage by users read by anonymous read\n{settings}\n"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a file of the server's certificates: `ca.crt`, `other.crt` (an authority that signed nothing), `client.crt`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    pub fn tls_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    pub fn socket_url(&self) -> String {
        format!(
            "ldapi://{}",
            self.path("socket").display().to_string().replace('/', "%2F")
        )
    }

    /// Stops the server as an administrator does.
    pub fn stop(&mut self) {
        let mut keeper = self.keeper.take().expect("slapd runs");
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    /// Starts it again, on the same ports.
    pub fn start(&mut self) {
        assert!(self.try_start(), "slapd does not start again: {}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let listen = format!(
            "ldap://127.0.0.1:{}/ ldaps://127.0.0.1:{}/ {}/",
            self.port,
            self.tls_port,
            self.socket_url()
        );
        let script = r#""$@" & child=$!; while read -r _; do :; done; kill -TERM $child; wait $child"#;
        let slapd = find("slapd").unwrap_or_else(|| missing("slapd", &"not found"));
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", script, "keeper"])
            .arg(slapd)
            .arg("-f")
            .arg(self.path("slapd.conf"))
            .args(["-h", &listen, "-d", if self.loud { "stats" } else { "0" }])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Instant::now();
        let pid = self.path("slapd.pid");
        while started.elapsed() < Duration::from_secs(20) {
            let is_ours = pid.exists() && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
            if is_ours {
                self.keeper = Some(keeper);
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
            if fs::read_to_string(self.path("log")).is_ok_and(|log| log.contains("slapd stopped.")) && !pid.exists() {
                let fresh = fs::read_to_string(self.path("log")).unwrap();
                if fresh.trim_end().ends_with("slapd stopped.") && started.elapsed() > Duration::from_secs(1) {
                    break;
                }
            }
        }
        drop(keeper.stdin.take());
        _ = keeper.wait();
        false
    }

    /// Returns all that the server was asked so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Counts the operations of one kind so far: `ADD`, `MOD`, `MODRDN`, `DEL`, `SRCH`.
    pub fn count(&self, kind: &str) -> usize {
        // The client has its answer before the server has written its line.
        std::thread::sleep(Duration::from_millis(30));
        let tag = format!(" {kind} ");
        let is_request = |line: &&str| line.contains(&tag) && (line.contains("dn=") || line.contains("base="));
        self.log().lines().filter(is_request).count()
    }

    /// Reads everything, operational attributes included: two of them are the same only when nothing was written in between.
    pub fn dump(&self) -> String {
        let all = self.search(&["-s", "sub", "-b", SUFFIX, "(objectClass=*)", "*", "+"]);
        let show = |(dn, entry): (&String, &Entry)| {
            let values = entry.iter().map(|(name, values)| {
                let values: Vec<_> = values.iter().map(|value| value.escape_ascii().to_string()).collect();
                format!("  {name}: {}\n", values.join(" | "))
            });
            format!("{dn}\n{}", values.collect::<String>())
        };
        all.iter().map(show).collect()
    }

    /// Reads an entry's own attributes.
    pub fn entry(&self, dn: &str) -> Option<Entry> {
        self.search(&["-s", "base", "-b", dn, "(objectClass=*)", "*"])
            .into_values()
            .next()
    }

    /// Returns the names of the entries below `base`, sorted.
    pub fn names(&self, base: &str) -> Vec<String> {
        self.search(&["-s", "sub", "-b", base, "(objectClass=*)", "1.1"])
            .into_keys()
            .collect()
    }

    /// Returns the values of an attribute as texts, sorted.
    #[track_caller]
    pub fn values(&self, dn: &str, attribute: &str) -> Vec<String> {
        let entry = self.entry(dn).unwrap_or_else(|| panic!("no entry {dn}"));
        let values = entry.get(&attribute.to_lowercase()).cloned().unwrap_or_default();
        values
            .into_iter()
            .map(|value| String::from_utf8(value).unwrap())
            .collect()
    }

    /// Changes the directory behind emaj's back, with LDIF for `ldapmodify`.
    #[track_caller]
    pub fn modify(&self, ldif: &str) {
        let mut child = self
            .client("ldapmodify")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| missing("ldapmodify", &e));
        child.stdin.take().unwrap().write_all(ldif.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "ldapmodify: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns one of OpenLDAP's own client programs, logged in as administrator.
    pub fn client(&self, name: &str) -> Command {
        let mut command = program(name);
        command.args(["-x", "-H", &self.url(), "-D", ADMIN, "-w", ADMIN_PASSWORD]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Searches with `ldapsearch`: the entries by their names, attributes in lower case, values sorted.
    #[track_caller]
    pub fn search(&self, args: &[&str]) -> BTreeMap<String, Entry> {
        let output = self
            .client("ldapsearch")
            .args(["-LLL", "-o", "ldif-wrap=no"])
            .args(args)
            .output()
            .unwrap_or_else(|error| missing("ldapsearch", &error));
        // 32: there is no such entry.
        assert!(
            output.status.success() || output.status.code() == Some(32),
            "ldapsearch: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut all = BTreeMap::new();
        for record in String::from_utf8(output.stdout).unwrap().split("\n\n") {
            let mut lines = record.lines().filter(|line| !line.is_empty()).map(read_line);
            let Some((_, dn)) = lines.next() else { continue };
            let mut entry = Entry::new();
            for (name, value) in lines {
                entry.entry(name.to_lowercase()).or_default().push(value);
            }
            entry.values_mut().for_each(|values| values.sort());
            all.insert(String::from_utf8(dn).unwrap(), entry);
        }
        all
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.stop();
        }
    }
}

fn read_line(line: &str) -> (String, Vec<u8>) {
    let (name, value) = line.split_once(':').unwrap();
    let value = match value.strip_prefix(':') {
        Some(encoded) => base64::engine::general_purpose::STANDARD
            .decode(encoded.trim())
            .unwrap(),
        None => value.strip_prefix(' ').unwrap_or(value).as_bytes().to_vec(),
    };
    (name.to_owned(), value)
}

fn base() -> String {
    format!(
        "dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n\
         dn: {ACCOUNT}\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: emaj\nuserPassword: {PASSWORD}\n\n\
         dn: ou=people,{SUFFIX}\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: ou=groups,{SUFFIX}\nobjectClass: organizationalUnit\nou: groups\n"
    )
}

/// Writes an authority, the server's and a client's certificate, and an authority that has nothing to do with them.
fn certificates(folder: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let ours = authority("test authority");
    fs::write(folder.join("ca.crt"), ours.pem()).unwrap();
    fs::write(folder.join("other.crt"), authority("another authority").pem()).unwrap();
    for (name, common_name, names) in [
        (
            "server",
            "localhost",
            vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        ),
        ("client", "emaj client", vec![]),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let signed = params.signed_by(&key, &ours).unwrap();
        fs::write(folder.join(format!("{name}.crt")), signed.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Ports below 32768 are not handed out for outgoing connections: a stopped server finds its own free again.
fn free_port() -> u16 {
    let mut seed = [0; 8];
    use std::io::Read as _;
    File::open("/dev/urandom").unwrap().read_exact(&mut seed).unwrap();
    let first = u64::from_le_bytes(seed) % 8_000;
    (0..8_000)
        .map(|step| 20_000 + ((first + step) % 8_000) as u16)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port")
}

fn program(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| missing(name, &"not found")))
}

/// Returns the directories of programs, with those of servers, which are not on everybody's path.
pub fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/libexec", "/sbin"].map(PathBuf::from);
    std::env::join_paths(std::env::split_paths(&path).chain(servers)).expect("no colon in a directory")
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|place| place.join(name))
        .find(|file| file.is_file())
}

fn missing(name: &str, why: &dyn std::fmt::Display) -> ! {
    panic!("this test needs `{name}` ({why}): sudo apt-get install -y slapd ldap-utils")
}
