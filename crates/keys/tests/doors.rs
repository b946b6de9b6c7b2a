//! Who opens which door with which key: real handshakes.
#![allow(clippy::unwrap_used)] // test helpers may panic

use keys::tls::Tls;
use keys::{Authority, Held, Identity, Keys, Request, Role};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// An authority and the directories of the keys that it has issued.
struct Issued {
    authority: Authority,
    directory: TempDir,
}

impl Issued {
    fn new() -> Self {
        let (certificate, key) = Authority::create().unwrap();
        let authority = Authority::parse(&certificate, &key, "").unwrap();
        Self { authority, directory: tempfile::tempdir().unwrap() }
    }

    fn keys(&self, own: &str) -> Keys {
        let name = std::fs::read_dir(self.directory.path()).unwrap().count().to_string();
        let keys = Keys::new(self.directory.path().join(name));
        keys.write(own, self.authority.trusted()).unwrap();
        keys
    }

    fn member(&self) -> Keys {
        self.keys(&self.authority.member("n1", &["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]).unwrap())
    }

    fn requested(&self, role: Role, name: &str) -> Keys {
        let (key, request) = Request::create(&Identity::new(role, name), None).unwrap();
        let certificate = self.authority.sign(Request::parse(&request).unwrap()).unwrap();
        self.keys(&(key + &certificate))
    }
}

/// Connects a client to a server. Returns whom the server sees, if both accept.
async fn connect(client: &Keys, server: &Keys) -> Result<Identity, String> {
    let (client, server) = (Tls::read(client).unwrap(), Tls::read(server).unwrap());
    let (here, there) = tokio::io::duplex(1 << 16);
    let accept = async {
        let mut stream = server.acceptor.accept(there).await.map_err(|error| error.to_string())?;
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Identity::of(&certificates[0]).map_err(|error| error.to_string())
    };
    let connect = async {
        let mut stream = client.connector.connect(Tls::name(), here).await.map_err(|error| error.to_string())?;
        stream.read_u8().await.map_err(|error| error.to_string())
    };
    let (seen, connected) = tokio::join!(accept, connect);
    connected.and(seen)
}

#[tokio::test]
async fn each_side_knows_who_the_other_one_is() {
    let issued = Issued::new();
    let member = issued.member();
    for (keys, role, name) in [
        (issued.member(), Role::Member, "n1"),
        (issued.requested(Role::Controller, "kube-ovn-controller"), Role::Controller, "kube-ovn-controller"),
        (issued.requested(Role::Chassis, "a-chassis"), Role::Chassis, "a-chassis"),
    ] {
        assert_eq!(connect(&keys, &member).await, Ok(Identity::new(role, name)));
        assert_eq!(keys.read().unwrap().identity, Identity::new(role, name));
    }
}

#[tokio::test]
async fn only_members_are_servers_and_strangers_are_nobody() {
    let (issued, other) = (Issued::new(), Issued::new());
    let chassis = issued.requested(Role::Chassis, "c1");
    connect(&issued.member(), &chassis).await.unwrap_err();
    connect(&other.requested(Role::Controller, "kube-ovn-controller"), &issued.member()).await.unwrap_err();
    // One that trusts the right authority, but has a key of another one.
    let stranger = issued.keys(&std::fs::read_to_string(other.member().own()).unwrap());
    connect(&stranger, &issued.member()).await.unwrap_err();
    connect(&issued.member(), &stranger).await.unwrap_err();
}

#[tokio::test]
async fn while_the_authority_is_replaced_both_are_trusted() {
    let before = Issued::new();
    let (certificate, key) = Authority::create().unwrap();
    let after = Authority::parse(&certificate, &key, before.authority.trusted()).unwrap();
    let after = Issued { authority: after, directory: tempfile::tempdir().unwrap() };
    let (old, new) = (before.member(), after.member());
    assert!(connect(&old, &new).await.is_err(), "it does not trust the new authority yet");
    old.write_trusted(after.authority.trusted()).unwrap();
    connect(&old, &new).await.unwrap();
    connect(&new, &old).await.unwrap();
    let signed = |keys: &Keys| keys.read().unwrap().is_signed_by_first(after.authority.trusted());
    assert_eq!((signed(&old), signed(&new)), (false, true));
    // What everybody trusts does not grow with each start.
    let again = Authority::parse(&certificate, &key, after.authority.trusted()).unwrap();
    assert_eq!(again.trusted(), after.authority.trusted());
    assert_eq!(again.trusted().matches("BEGIN").count(), 2);
}

#[test]
fn of_a_request_only_the_identity_and_the_key_are_signed() {
    let issued = Issued::new();
    let keys = issued.requested(Role::Chassis, "c1");
    let held = keys.read().unwrap();
    assert!(held.addresses.is_empty() && held.renewal().unwrap().as_secs() / 86400 == 59, "{held:?}");
    assert_eq!(issued.member().read().unwrap().addresses.len(), 2);
    for (subject, why) in [
        ("O=system:masters, CN=c1", "has not one of the organizations"),
        ("O=kube-ovn:chassis", "has not one common name"),
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for part in subject.split(", ") {
            let (kind, value) = part.split_once('=').unwrap();
            let kind = if kind == "O" { rcgen::DnType::OrganizationName } else { rcgen::DnType::CommonName };
            params.distinguished_name.push(kind, value);
        }
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let refused = Request::parse(&request).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    for (name, why) in
        [("c1\0", "has not one common name"), ("c 1", "has not one common name"), ("", "not one common name")]
    {
        let (_, request) = Request::create(&Identity::new(Role::Chassis, name), None).unwrap();
        let refused = Request::parse(&request).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    // Two parsers could each find another one.
    let (_, own) = Request::create(&Identity::new(Role::Chassis, "c1"), None).unwrap();
    let (_, other) = Request::create(&Identity::new(Role::Chassis, "c2"), None).unwrap();
    for text in [format!("{own}{other}"), format!("#{own}{other}"), format!("#{own}"), format!("{own}#")] {
        Request::parse(&text).unwrap_err();
    }
    Request::parse(&own).unwrap();
    let refused = Request::parse("nonsense").unwrap_err().to_string();
    assert!(refused.starts_with("the request cannot be read: "), "{refused}");
    Held::parse(b"nonsense").unwrap_err();
}

#[test]
fn a_certificate_is_renewed_by_whoever_has_its_key() {
    let issued = Issued::new();
    let identity = Identity::new(Role::Chassis, "c1");
    let former = std::fs::read_to_string(issued.requested(Role::Chassis, "c1").own()).unwrap();
    let renews = |identity: &Identity, key: Option<&str>, former: &str, authority: &Authority| {
        let (_, request) = Request::create(identity, key).unwrap();
        Request::parse(&request).unwrap().renews(former, authority)
    };
    assert!(renews(&identity, Some(&former), &former, &issued.authority));
    assert!(!renews(&identity, None, &former, &issued.authority), "another key");
    assert!(!renews(&Identity::new(Role::Chassis, "c2"), Some(&former), &former, &issued.authority), "another name");
    assert!(!renews(&Identity::new(Role::Controller, "c1"), Some(&former), &former, &issued.authority), "another role");
    assert!(!renews(&identity, Some(&former), &former, &Issued::new().authority), "a stranger's certificate");
    assert!(!renews(&identity, Some(&former), "nonsense", &issued.authority));
    let (certificate, key) = Authority::create().unwrap();
    let next = Authority::parse(&certificate, &key, issued.authority.trusted()).unwrap();
    assert!(!renews(&identity, Some(&former), &former, &next), "one of a former authority");
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let (issued, other) = (Issued::new(), Issued::new());
    let keys = issued.member();
    let mut followed = Tls::follow(&keys).unwrap();
    let own = other.authority.member("n1", &[]).unwrap();
    keys.write(&own, other.authority.trusted()).unwrap();
    let now = Keys::new(other.directory.path().join("none"));
    assert!(Tls::follow(&now).is_err() && Tls::read(&now).is_err());
    until_trusted(&mut followed, &Tls::read(&other.member()).unwrap()).await;

    // Another directory takes the place of this one, and its files change as well.
    let (third, fourth) = (Issued::new(), Issued::new());
    let former = keys.directory().with_extension("former");
    std::fs::rename(keys.directory(), &former).unwrap();
    let own = third.authority.member("n1", &[]).unwrap();
    keys.write(&own, third.authority.trusted()).unwrap();
    until_trusted(&mut followed, &Tls::read(&third.member()).unwrap()).await;
    let own = fourth.authority.member("n1", &[]).unwrap();
    keys.write(&own, fourth.authority.trusted()).unwrap();
    until_trusted(&mut followed, &Tls::read(&fourth.member()).unwrap()).await;
}

/// Waits until these keys and those of the client trust each other.
async fn until_trusted(followed: &mut watch::Receiver<Option<Tls>>, client: &Tls) {
    let changed = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        loop {
            let tls = followed.borrow_and_update().clone().unwrap();
            let (here, there) = tokio::io::duplex(1 << 16);
            let (accepted, connected) =
                tokio::join!(tls.acceptor.accept(there), client.connector.connect(Tls::name(), here));
            if accepted.is_ok() && connected.is_ok() {
                return;
            }
            followed.changed().await.unwrap();
        }
    });
    changed.await.unwrap();
}

#[test]
fn the_key_of_an_authority_is_that_of_its_certificate() {
    let ((certificate, key), (_, other)) = (Authority::create().unwrap(), Authority::create().unwrap());
    Authority::parse(&certificate, &key, "").unwrap();
    let refused = Authority::parse(&certificate, &other, "").unwrap_err().to_string();
    assert!(refused.starts_with("the authority's private key is not that of its certificate"), "{refused}");
}

/// What is edited by hand is looked at before anything depends on it.
#[test]
fn an_authority_that_nobody_could_use_is_refused() {
    let (certificate, key) = Authority::create().unwrap();
    let why = |certificate: &str, key: &str, trusted: &str| {
        Authority::parse(certificate, key, trusted).unwrap_err().to_string()
    };
    let broken = certificate.replace("MII", "MIJ");
    let said = why(&certificate, &key, &broken);
    assert!(said.starts_with("a certificate that everybody trusts cannot be read: "), "{said}");
    let authority = Authority::parse(&certificate, &key, "").unwrap();
    let leaf = authority.member("n1", &[]).unwrap();
    let at = leaf.find("-----BEGIN CERTIFICATE").unwrap();
    assert_eq!(
        why(&leaf[at..], &leaf[..at], ""),
        "the certificate of the authority is not that of an authority: its basic constraints do not have CA:TRUE"
    );
    // What it signs would name another issuer.
    let directory = tempfile::tempdir().unwrap();
    let (file, subject) = (|name| directory.path().join(name), "/DC=com/DC=example/CN=ca");
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            subject,
            "-keyout",
        ])
        .arg(file("key"))
        .arg("-out")
        .arg(file("certificate"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let [certificate, key] = ["certificate", "key"].map(|name| std::fs::read_to_string(file(name)).unwrap());
    assert_eq!(
        why(&certificate, &key, ""),
        "the certificate of the authority has a subject that cannot be repeated in what it signs: it has several attributes of one kind"
    );
}
