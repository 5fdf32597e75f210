//! The races of section 5 of the protocol, one by one; the number in a name is the row.

use super::world::{Trial, backup, restore};

#[tokio::test]
async fn a_backup_is_read_back() {
    let (_, repository) = Trial::begin(1).await;
    let content = vec![1, 2, 0, 3, 3, 1];
    let point = backup(&repository, "db", &content, None).await.unwrap();
    assert_eq!(restore(&repository, point.point).await.unwrap(), content);
}
