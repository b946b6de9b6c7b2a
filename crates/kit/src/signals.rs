//! Stop signals: SIGTERM from the kubelet or SIGINT from a terminal.

use tokio::signal::unix::{SignalKind, signal};

/// Completes when the process receives a stop signal. Fails only if the handlers cannot be installed.
pub async fn stop_requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
    }
    Ok(())
}
