//! A unit file as the lab reads it: what a service starts, in which environment, and as whom (systemd.service(5), systemd.exec(5)).
//!
//! Each setting is one of two kinds: followed, or one that only says when a service is started, what it may, or how it ends. Any
//! other is an error, since it might change what is run.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::words;

/// What only orders or bounds, by section. Nothing is started again here: that is for tests to do.
const LEFT: [(&str, &[&str]); 3] = [
    ("Unit", &["After", "Before", "Description", "Documentation", "StartLimitIntervalSec", "Wants"]),
    (
        "Service",
        &[
            "CapabilityBoundingSet",
            "KillMode",
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "NoNewPrivileges",
            "OOMScoreAdjust",
            "PrivateDevices",
            "PrivateTmp",
            "ProtectClock",
            "ProtectControlGroups",
            "ProtectHome",
            "ProtectHostname",
            "ProtectKernelLogs",
            "ProtectKernelModules",
            "ProtectKernelTunables",
            "ProtectProc",
            "ProtectSystem",
            "ReadWritePaths",
            "Restart",
            "RestartSec",
            "RestrictAddressFamilies",
            "RestrictNamespaces",
            "RestrictRealtime",
            "RuntimeDirectoryPreserve",
            "SystemCallArchitectures",
            "SystemCallFilter",
            "UMask",
        ],
    ),
    ("Install", &["WantedBy"]),
];

/// Where a service finds its programs (systemd.exec(5), `$PATH`).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// A service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unit {
    name: String,
    /// Still with specifiers.
    environment: Vec<String>,
    environment_files: Vec<String>,
    before: Vec<String>,
    start: Option<String>,
    /// Directories under `/run` to make first.
    pub directories: Vec<String>,
    /// Names and files of what it is shown under [`Unit::credentials`].
    pub secrets: Vec<(String, String)>,
    /// Whether it runs as nobody.
    pub nobody: bool,
    /// How many seconds it has to end.
    pub grace: u64,
}

/// What is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lines {
    /// First these, one after the other, each to its end.
    pub before: Vec<Vec<String>>,
    /// The service.
    pub start: Vec<String>,
    /// The whole environment of all of them.
    pub environment: BTreeMap<String, String>,
}

impl Unit {
    /// Reads the file of the service called `name`, which is without `.service`.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut unit = Self { name: name.to_owned(), grace: 90, ..Self::default() };
        let mut section = String::new();
        for line in joined(text).lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                title.clone_into(&mut section);
                continue;
            }
            let (key, value) = line.split_once('=').with_context(|| format!("{name}: no setting: {line}"))?;
            let (key, value) = (key.trim_end(), value.trim_start());
            if !LEFT.iter().any(|(of, keys)| *of == section && keys.contains(&key)) {
                ensure!(section == "Service", "{name}: [{section}] {key}= is not known here");
                unit.set(key, value).with_context(|| format!("{name}: {key}={value}"))?;
            }
        }
        ensure!(unit.start.is_some(), "{name}: it starts nothing");
        Ok(unit)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match (key, value) {
            ("Type", "simple" | "exec") => {}
            ("Type", _) => bail!("only simple and exec are known here"),
            // Lists begin anew after an empty value.
            ("Environment", "") => self.environment.clear(),
            ("EnvironmentFile", "") => self.environment_files.clear(),
            ("ExecStartPre", "") => self.before.clear(),
            ("ExecStart", "") => self.start = None,
            ("LoadCredential", "") => self.secrets.clear(),
            ("Environment", _) => self.environment.extend(words::split(value)?),
            ("EnvironmentFile", _) => self.environment_files.push(value.to_owned()),
            ("ExecStartPre", _) => self.before.push(value.to_owned()),
            ("ExecStart", _) => {
                ensure!(self.start.is_none(), "a service starts one program");
                self.start = Some(value.to_owned());
            }
            ("LoadCredential", _) => {
                let (name, file) = value.split_once(':').context("no NAME:FILE")?;
                self.secrets.push((name.to_owned(), file.to_owned()));
            }
            ("RuntimeDirectory", _) => self.directories.extend(words::split(value)?),
            ("DynamicUser", "yes" | "no") => self.nobody = value == "yes",
            ("TimeoutStopSec", _) => self.grace = value.parse().context("a number of seconds is known here")?,
            _ => bail!("is not known here"),
        }
        Ok(())
    }

    /// Where its secrets are.
    pub fn credentials(&self) -> String {
        format!("/run/credentials/{}.service", self.name)
    }

    /// What is run on the host called `host`; `read` reads one of its files, and gives none where there is none.
    pub fn lines(&self, host: &str, read: impl Fn(&str) -> Result<Option<String>>) -> Result<Lines> {
        let known = |letter| match letter {
            'H' => Some(host.to_owned()),
            'N' | 'p' => Some(self.name.clone()),
            'n' => Some(format!("{}.service", self.name)),
            'd' if !self.secrets.is_empty() => Some(self.credentials()),
            _ => None,
        };
        let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        if !self.secrets.is_empty() {
            environment.insert("CREDENTIALS_DIRECTORY".to_owned(), self.credentials());
        }
        for word in &self.environment {
            environment.extend([words::assignment(&words::specifiers(word, known)?)?]);
        }
        // What a file says comes after what the unit says, whichever stands first.
        for path in &self.environment_files {
            let (path, optional) = path.strip_prefix('-').map_or((path.as_str(), false), |path| (path, true));
            let path = words::specifiers(path, known)?;
            match read(&path)? {
                Some(text) => environment.extend(words::environment_file(&text).context(path)?),
                None => ensure!(optional, "{}: {path} is not there", self.name),
            }
        }
        let line = |line: &str| -> Result<Vec<String>> {
            let all = words::split(line)?;
            let all = all.iter().map(|word| words::specifiers(word, known)).collect::<Result<Vec<_>>>()?;
            let (program, arguments) = all.split_first().context("no program")?;
            ensure!(program.starts_with('/'), "{program}: only a path is known here, without signs before it");
            Ok(std::iter::once(program.clone()).chain(words::variables(arguments, &environment)).collect())
        };
        let start = self.start.as_deref().context("it starts nothing")?;
        let (before, start) = (self.before.iter().map(|pre| line(pre)).collect::<Result<_>>()?, line(start)?);
        Ok(Lines { before, start, environment })
    }
}

/// Without comments, and with a line that ends in a backslash joined to the next one that is none.
fn joined(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
    let mut out = String::new();
    for line in lines {
        match line.strip_suffix('\\') {
            Some(begun) => out.extend([begun, " "]),
            None => out.extend([line, "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(service: &str) -> Result<Unit> {
        Unit::parse("u", &format!("[Unit]\nDescription=U\n[Service]\n{service}\n[Install]\nWantedBy=x\n"))
    }

    #[test]
    fn a_service_is_started_as_its_file_says() {
        let text = "Type=exec\nEnvironment=NAME=%H \"B=c d\"\nEnvironmentFile=/etc/s\nEnvironmentFile=-/etc/none\n\
            LoadCredential=key:/etc/key\nRestart=always\nTimeoutStopSec=60\nRuntimeDirectory=x\n\
            ExecStartPre=/bin/true ${B}\nExecStart=/bin/a --key=%d/key \\\n# amid it\n   --name=${NAME} $WORDS";
        let unit = unit(text).unwrap();
        assert_eq!((unit.grace, unit.nobody, unit.directories.as_slice()), (60, false, ["x".to_owned()].as_slice()));
        let read = |path: &str| Ok((path == "/etc/s").then(|| "WORDS=1 2\nNAME=other\n".to_owned()));
        let lines = unit.lines("n1", read).unwrap();
        assert_eq!(lines.start, ["/bin/a", "--key=/run/credentials/u.service/key", "--name=other", "1", "2"]);
        assert_eq!(lines.before, [["/bin/true", "c d"]]);
        let names: Vec<_> = lines.environment.keys().map(String::as_str).collect();
        assert_eq!(names, ["B", "CREDENTIALS_DIRECTORY", "NAME", "PATH", "WORDS"]);
        let missing = unit.lines("n1", |_| Ok(None)).unwrap_err().to_string();
        assert_eq!(missing, "u: /etc/s is not there");
    }

    #[test]
    fn what_might_change_what_is_run_is_refused_by_its_name() {
        let refused = |service: &str| format!("{:#}", unit(service).unwrap_err());
        assert_eq!(refused("RootDirectory=/x\nExecStart=/a"), "u: RootDirectory=/x: is not known here");
        assert!(refused("Type=forking\nExecStart=/a").contains("Type=forking"));
        assert!(refused("ExecStart=/a\nExecStart=/b").contains("a service starts one program"));
        assert_eq!(refused("Restart=always"), "u: it starts nothing");
        let elsewhere = Unit::parse("u", "[Unit]\nExecStart=/a\n").unwrap_err().to_string();
        assert_eq!(elsewhere, "u: [Unit] ExecStart= is not known here");
        let signs = unit("ExecStart=+/a").unwrap().lines("n1", |_| Ok(None)).unwrap_err().to_string();
        assert!(signs.starts_with("+/a: "), "{signs}");
    }
}
