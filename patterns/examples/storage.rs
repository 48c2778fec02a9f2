//! A head, three data nodes and a client; a data node goes away, and the record is still there.
//!
//!     cargo run --example storage

use std::error::Error;
use std::time::Duration;

use mutirao::storage::{ClientSetup, DataNode, DataSetup, HeadSetup, StorageClient, StorageHead};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("mutirao-storage-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;

    // In earnest each is a process of its own, the data nodes on machines of their own.
    let at = "tcp://127.0.0.1:*".parse()?;
    let mut setup = HeadSetup::new(at, folder.join("registro_server.txt"));
    setup.config.beat = Duration::from_millis(100);
    let head = StorageHead::start(setup)?;
    let mut nodes = Vec::new();
    for name in ["norte", "sur", "este"] {
        let file = folder.join(format!("{name}.txt"));
        let setup = DataSetup::new(name, vec![head.endpoint().clone()], file);
        nodes.push((name, DataNode::start(setup)?));
    }

    let mut client = StorageClient::open(ClientSetup::new(head.endpoint().clone()))?;
    // It returns when two disks have the record, and asks again until then.
    let stored = client.put(&b"bom dia"[..])?;
    println!("stored on {} data nodes", stored.places.len());

    let (gone, _) = nodes.remove(0);
    let bytes = client.get(stored.id)?.ok_or("it is lost")?;
    println!("without {gone}: {}", String::from_utf8_lossy(&bytes));

    drop((client, nodes, head));
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
