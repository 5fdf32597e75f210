# A volume on one node:
#
#   nomad volume create deploy/nomad/volume.nomad.hcl
#
# A job takes it with volume "db" { type = "csi" source = "db" access_mode = "single-node-writer" attachment_mode = "file-system" }
id           = "db"
name         = "db"
type         = "csi"
plugin_id    = "strongroom"
capacity_min = "1GiB"
capacity_max = "1GiB"

capability {
  access_mode     = "single-node-writer"
  attachment_mode = "file-system"
}

mount_options {
  fs_type = "ext4"
}
