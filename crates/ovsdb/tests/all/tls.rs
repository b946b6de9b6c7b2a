//! Tests `ssl:` endpoints against a real `ovsdb-server`. The certificates have no host names, like those of `ovs-pki`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ovsdb::testing::OvsdbServer;
use ovsdb::{Client, Config, ConfigError, Endpoint, Op, Table, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use crate::SCHEMA;

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a key, a certificate and the CA certificate for `name` into a folder. Existing files are overwritten.
    fn give(&self, dir: &Path, name: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::DnsName(format!("{name} id:1234").try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let file = |what: &str, text: &str| {
            let path = dir.join(format!("{name}-{what}.pem"));
            fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            private_key: file("privkey", &key.serialize_pem()),
            certificate: file("cert", &certificate),
            ca_cert: file("cacert", &self.pem),
        }
    }
}

fn config(endpoint: Endpoint, files: &TlsFiles) -> Config {
    let tables = vec![Table { name: "Shelf", columns: &["name"], key: None }];
    Config { tls: Some(files.clone()), ..Config::new(vec![endpoint], "Shop", tables) }
}

/// Waits until an attempt fails for this reason and checks that the failure names the endpoint.
async fn fails(client: &Client, endpoint: &Endpoint, why: &str) {
    let mut failure = client.failure();
    let said = failure.wait_for(|said| said.as_ref().is_some_and(|said| said.contains(why)));
    let said = tokio::time::timeout(std::time::Duration::from_secs(20), said).await;
    let said = said.unwrap_or_else(|_| panic!("no failure with {why:?}: {:?}", client.failure().borrow())).unwrap();
    assert!(said.as_ref().unwrap().starts_with(&endpoint.to_string()), "{said:?}");
    assert!(!*client.connected().borrow());
}

fn insert() -> [Op; 1] {
    [Op::Insert { table: "Shelf", uuid: None, row: [("name", "a".into())].into() }]
}

#[tokio::test]
async fn a_server_of_our_authority_is_talked_to_whatever_its_name() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    let server = OvsdbServer::start_tls(SCHEMA, authority.give(dir.path(), "nb")).unwrap();
    let config = config(server.ssl(), &authority.give(dir.path(), "client"));
    config.check().unwrap();
    let (client, _changes) = Client::spawn(config);
    client.synced().await;
    client.transact(&insert()).await.unwrap();
    assert_eq!(client.read(|replica| replica.len("Shelf")), 1);
    assert_eq!(*client.failure().borrow(), None);
}

#[tokio::test]
async fn certificates_of_ovs_pki_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let pki = |args: &[&str]| {
        let mut command = Command::new("ovs-pki");
        command.arg(format!("--dir={}", dir.path().join("pki").display())).args(args).current_dir(dir.path());
        let done = command.output().unwrap_or_else(|e| panic!("ovs-pki: {e}: apt-get install openvswitch-common"));
        assert!(done.status.success(), "ovs-pki {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    pki(&["--log=log", "init"]);
    let files = |name: &str| TlsFiles {
        private_key: dir.path().join(format!("{name}-privkey.pem")),
        certificate: dir.path().join(format!("{name}-cert.pem")),
        ca_cert: dir.path().join("pki/switchca/cacert.pem"),
    };
    for name in ["nb", "client"] {
        pki(&["--log=log", "req+sign", name, "switch"]);
    }
    let server = OvsdbServer::start_tls(SCHEMA, files("nb")).unwrap();
    let (client, _changes) = Client::spawn(config(server.ssl(), &files("client")));
    client.synced().await;
    client.transact(&insert()).await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = OvsdbServer::start_tls(SCHEMA, other.give(dir.path(), "nb")).unwrap();
    let (client, _changes) = Client::spawn(config(server.ssl(), &ours.give(dir.path(), "client")));
    fails(&client, &server.ssl(), "invalid peer certificate").await;
}

#[tokio::test]
async fn a_certificate_that_was_renewed_is_used_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let mut server = OvsdbServer::start_tls(SCHEMA, ours.give(dir.path(), "nb")).unwrap();
    // The client trusts the server, but the server does not trust the client.
    let files = other.give(dir.path(), "client");
    fs::write(&files.ca_cert, &ours.pem).unwrap();
    let (client, _changes) = Client::spawn(config(server.ssl(), &files));
    fails(&client, &server.ssl(), "alert").await;

    assert_eq!(ours.give(dir.path(), "client"), files);
    client.synced().await;

    // A live session does not need the files. The next session does.
    fs::remove_file(&files.private_key).unwrap();
    client.transact(&insert()).await.unwrap();
    server.restart().unwrap();
    fails(&client, &server.ssl(), "client-privkey.pem").await;
    other.give(dir.path(), "nb");
    other.give(dir.path(), "client");
    server.restart().unwrap();
    client.synced().await;
    assert_eq!(client.read(|replica| replica.len("Shelf")), 1);
}

#[tokio::test]
async fn nobody_is_served_without_a_certificate() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    let server = OvsdbServer::start_tls(SCHEMA, authority.give(dir.path(), "nb")).unwrap();
    let files = authority.give(dir.path(), "client");
    let (client, _changes) = Client::spawn(Config { tls: None, ..config(server.ssl(), &files) });
    fails(&client, &server.ssl(), "ssl without a private key, a certificate and a CA certificate").await;

    // The server refuses a client without a certificate.
    let Endpoint::Ssl { host, port } = server.ssl() else { unreachable!() };
    let mut stranger = Command::new("openssl");
    stranger.args(["s_client", "-connect", &format!("{host}:{port}"), "-CAfile"]).arg(&files.ca_cert).arg("-ign_eof");
    let said = stranger.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("openssl: {e}"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("alert certificate required") || said.contains("alert handshake failure"), "{said}");
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    let server = OvsdbServer::start(SCHEMA).unwrap();
    let Endpoint::Tcp { host, port } = server.tcp() else { unreachable!() };
    let endpoint = Endpoint::Ssl { host, port };
    let (client, _changes) = Client::spawn(config(endpoint.clone(), &authority.give(dir.path(), "client")));
    fails(&client, &endpoint, "connection").await;
}

#[test]
fn files_that_do_not_fit_are_named() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    let endpoint: Endpoint = "ssl:[::1]:6641".parse().unwrap();
    let files = authority.give(dir.path(), "client");
    let check = |files: &TlsFiles| config(endpoint.clone(), files).check().map_err(|error| error.to_string());
    assert_eq!(check(&files), Ok(()));

    let none = Config { tls: None, ..config(endpoint.clone(), &files) };
    assert!(matches!(none.check(), Err(ConfigError::NoTls(_))));
    for (wrong, why) in [
        (TlsFiles { private_key: authority.give(dir.path(), "other").private_key, ..files.clone() }, "private key"),
        (TlsFiles { private_key: files.certificate.clone(), ..files.clone() }, "private key"),
        (TlsFiles { certificate: files.private_key.clone(), ..files.clone() }, "no certificate in it"),
        (TlsFiles { ca_cert: dir.path().join("absent"), ..files.clone() }, "CA certificate"),
    ] {
        let error = check(&wrong).unwrap_err();
        assert!(error.starts_with("endpoint ssl:[::1]:6641: ") && error.contains(why), "{error}");
    }
}
