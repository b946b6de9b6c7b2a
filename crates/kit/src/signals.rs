//! How a process is asked to stop: SIGTERM (the kubelet) or SIGINT (a person).

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to stop. Fails only when the handlers cannot be installed.
pub async fn stop_requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
    }
    Ok(())
}
