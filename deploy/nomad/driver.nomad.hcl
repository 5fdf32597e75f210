# The driver on every client of a Nomad cluster. Volumes are on their node, so every node runs all of it ("monolith").
#
#   nomad job run deploy/nomad/driver.nomad.hcl
#
# The Docker task driver must allow it: plugin "docker" { config { allow_privileged = true } }.
job "strongroom" {
  type     = "system"
  priority = 90

  group "driver" {
    restart {
      attempts = 10
      interval = "5m"
      delay    = "5s"
      mode     = "delay"
    }

    task "driver" {
      driver = "docker"

      config {
        image      = "strongroom:0.1.0"
        privileged = true
        args = [
          "driver",
          "--pool=/var/lib/strongroom/pool",
          "--state-dir=/var/lib/strongroom/driver",
          "--endpoint=unix:///csi/csi.sock",
          "--node-id=${node.unique.name}",
          # Where Nomad has volumes mounted, as the driver sees it: stage_publish_base_dir of the csi_plugin below.
          "--mount-root=/local/csi",
          "--log-format=json",
        ]
        mount {
          type   = "bind"
          source = "/var/lib/strongroom"
          target = "/var/lib/strongroom"
          bind_options {
            propagation = "rshared"
          }
        }
        mount {
          type   = "bind"
          source = "/dev"
          target = "/dev"
        }
      }

      csi_plugin {
        id             = "strongroom"
        type           = "monolith"
        mount_dir      = "/csi"
        health_timeout = "10m"

        stage_publish_base_dir = "/local/csi"
      }

      # Calls that are going on have 20 seconds.
      kill_timeout = "60s"

      resources {
        cpu        = 100
        memory     = 128
        memory_max = 512
      }
    }
  }
}
