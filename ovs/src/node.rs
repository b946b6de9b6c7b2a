//! Runs the node's database, ovs-vswitchd and ovn-controller, in the order of their dependencies.

use std::path::PathBuf;
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::crew::{Crew, CrewError, Part};
use daemons::init::{self, InitError};
use daemons::status::{self, Status, StatusError};
use daemons::version::{OLDEST_OVS, Version, VersionError};
use tokio::process::Command;
use tokio::sync::watch;

use crate::args::{Check, Run, RunDirectories};
use crate::conf::{Conf, ConfError};
use crate::datapath::{Datapath, DatapathError, Machine};
use crate::flows::Flows;
use crate::foreign::{self, ForeignError};
use crate::inquiry::Inquiry;
use crate::places::{CONTROLLER, SERVER, VSWITCHD, control_socket, pid_file};
use crate::session::{Session, SessionError};
use crate::settings::{self, IdError, Recorded};
use crate::southbound;
use crate::underlay::{Underlay, UnderlayError};
use crate::vswitchd::{Table, Vswitchd, VswitchdError};

/// Why the program stopped without a stop signal.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The installed OVN or Open vSwitch is too old.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// No datapath is available.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The interface for tunnels is unusable.
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
    /// A daemon of somebody else runs.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// A daemon fails permanently.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// A directory, a socket or a limit cannot be set up.
    #[error(transparent)]
    Init(#[from] InitError),
}

/// A daemon of the node.
#[derive(Debug)]
enum Place {
    Conf(Conf, Wishes),
    Vswitchd(Vswitchd),
    /// The directories, and that of the chassis' key, which the node agent keeps.
    Controller(RunDirectories, PathBuf),
}

/// The settings to write as soon as the database server runs.
#[derive(Clone, Debug)]
struct Wishes {
    session: Session,
    id_file: PathBuf,
    node_name: String,
    datapath: Datapath,
}

/// Why a daemon does not work.
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    #[error(transparent)]
    Conf(#[from] ConfError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Vswitchd(#[from] VswitchdError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Runs the daemons until a stop signal.
pub async fn run(run: Box<Run>) -> Result<(), NodeError> {
    if run.sb.is_some() {
        tracing::warn!("--sb has no effect: the node agent tells ovn-controller of the southbound database");
    }
    init::begin()?;
    let ovn = Version::of_ovn("ovn-controller").await?;
    let ovs = Version::at_least(VSWITCHD, OLDEST_OVS).await?;
    let (datapath, because) = Machine::look(run.network_type, run.datapath).await.choose(run.datapath)?;
    tracing::info!(%ovn, %ovs, node = run.node_name, "starting on the {datapath} datapath: {because}");
    let directories = &run.directories;
    let underlay = match run.iface.as_str() {
        "" => None,
        iface => {
            let underlay = Underlay::new(iface)?;
            underlay.check().await?;
            Some(underlay)
        }
    };
    if datapath == Datapath::Netdev && underlay.is_none() {
        tracing::warn!(
            "no --iface: the userspace datapath has no tunnels to other nodes without an interface for them"
        );
    }
    let others = [run.database_directory.as_path(), &directories.ovn_run_directory];
    let stop = kit::signals::stop_requested();
    let Some(_turn) = init::take_turn(&directories.run_directory, &others, stop).await? else { return Ok(()) };
    foreign::look(directories, foreign::ENDING).await?;

    let conf = Conf {
        file: run.database_directory.join("conf.db"),
        schema: run.data_directory.join("vswitch.ovsschema"),
        run_directory: directories.run_directory.clone(),
    };
    let session = Session::new(conf.socket());
    let table = watch::Sender::default();
    let inquiry = Inquiry {
        directories: directories.clone(),
        session: session.clone(),
        no_tunnels: datapath == Datapath::Netdev && underlay.is_none(),
        port: run.network_type.port(),
        table: table.subscribe(),
    };
    let database = conf.socket();
    let crew = Crew::new(places(&run, conf, session, datapath, underlay, table), run.grace());
    tokio::spawn(southbound::follow(database, crew.members(), directories.clone()));
    let socket = directories.status();
    let status = Status::bind(&socket, crew.members()).map_err(InitError::on(&socket.display()))?;
    let answering = async |question, name, pid| inquiry.answer(question, name, pid).await;
    Ok(crew.serve(status, kit::signals::stop_requested(), answering).await?)
}

/// Queries the daemons in this container.
pub async fn check(check: &Check) -> Result<(), StatusError> {
    status::ask(&check.directories.status(), check.question).await
}

fn places(
    run: &Run,
    conf: Conf,
    session: Session,
    datapath: Datapath,
    underlay: Option<Underlay>,
    table: watch::Sender<Table>,
) -> [Place; 3] {
    let directories = &run.directories;
    let wishes = Wishes {
        session: session.clone(),
        id_file: run.database_directory.join("system-id.conf"),
        node_name: run.node_name.clone(),
        datapath,
    };
    let flows = Flows::new(&directories.run_directory, &run.data_directory);
    let vswitchd = Vswitchd::new(session, directories.run_directory.clone(), datapath, flows, underlay, table);
    [
        Place::Conf(conf, wishes),
        Place::Vswitchd(vswitchd),
        Place::Controller(directories.clone(), run.database_directory.join("keys")),
    ]
}

impl Wishes {
    async fn write(&self) -> Result<(), PlaceError> {
        self.session.begin().await?;
        let recorded =
            Recorded { id: self.session.external_id("system-id"), hostname: self.session.external_id("hostname") };
        let id = settings::system_id(&self.id_file, recorded, &self.node_name)?;
        let ours = settings::ours(&id, &self.node_name, self.datapath);
        if self.session.external_ids(&ours).await? {
            tracing::info!(chassis = id, datapath = %self.datapath, "wrote the node's settings");
        }
        Ok(())
    }
}

impl Place {
    fn control(&self, pid: u32) -> PathBuf {
        match self {
            Self::Conf(conf, _) => conf.run_directory.join(format!("{SERVER}.{pid}.ctl")),
            Self::Vswitchd(vswitchd) => vswitchd.control(pid),
            Self::Controller(directories, _) => control_socket(directories, CONTROLLER, pid),
        }
    }
}

impl Part for Place {
    type Error = PlaceError;

    fn name(&self) -> &'static str {
        match self {
            Self::Conf(..) => SERVER,
            Self::Vswitchd(_) => VSWITCHD,
            Self::Controller(..) => CONTROLLER,
        }
    }

    async fn prepare(&mut self) -> Result<Command, PlaceError> {
        match self {
            Self::Conf(conf, _) => Ok(conf.prepare().await?),
            Self::Vswitchd(vswitchd) => Ok(vswitchd.prepare().await?),
            Self::Controller(directories, keys) => {
                let RunDirectories { run_directory, ovn_run_directory } = directories;
                let mut command = daemons::daemon::command(CONTROLLER);
                command.env("OVS_RUNDIR", &*run_directory).env("OVN_RUNDIR", &*ovn_run_directory).args([
                    format!("unix:{}", run_directory.join("db.sock").display()),
                    format!("--pidfile={}", pid_file(directories, CONTROLLER).display()),
                    // It reads them when it needs them, and anew when they change.
                    format!("--private-key={}", keys.join("tls.pem").display()),
                    format!("--certificate={}", keys.join("tls.pem").display()),
                    format!("--ca-cert={}", keys.join("ca.pem").display()),
                ]);
                Ok(command)
            }
        }
    }

    /// ovn-controller also works without the southbound database: it keeps the flows it has.
    async fn check(&self, pid: u32) -> Result<(), PlaceError> {
        control::ask(&self.control(pid), "version", &[]).await?;
        Ok(())
    }

    async fn finish_start(&mut self, pid: u32) -> Result<(), PlaceError> {
        let control = self.control(pid);
        match self {
            Self::Conf(_, wishes) => wishes.write().await,
            Self::Vswitchd(vswitchd) => Ok(vswitchd.finish_start(&control).await?),
            Self::Controller(..) => Ok(()),
        }
    }

    /// With `--restart`, the chassis stays registered, so other nodes keep their tunnels to this node.
    async fn exit(&mut self, pid: u32) -> Result<(), PlaceError> {
        let control = self.control(pid);
        match self {
            Self::Conf(..) => drop(control::ask(&control, "exit", &[]).await?),
            Self::Vswitchd(vswitchd) => vswitchd.exit(&control).await?,
            Self::Controller(..) => drop(control::ask(&control, "exit", &["--restart"]).await?),
        }
        Ok(())
    }

    /// The datapath forwards without ovn-controller.
    fn is_dispensable(&self) -> bool {
        matches!(self, Self::Controller(..))
    }

    fn patience(&self) -> Duration {
        Duration::from_mins(1)
    }
}
