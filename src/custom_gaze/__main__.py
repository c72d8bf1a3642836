from custom_gaze.cli import main

raise SystemExit(main())
